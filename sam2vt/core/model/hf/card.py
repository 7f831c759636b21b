"""Write the model card of an exported checkpoint: data, recipe, scores, licence, how to load it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sam2vt.core.storage.hf_folder import CONFIG, WEIGHTS
from sam2vt.core.storage.hub import HUB_PREFIX

_META = re.compile(r"(hf://facebook/sam2\b.*|(.*/)?sam2(\.1)?_hiera_(tiny|small|base_plus|large)\.pt)")
GAP = "Say here"  # begins what only the author knows
_LOAD = """```python
from transformers import Sam2VideoModel, Sam2VideoProcessor

model = Sam2VideoModel.from_pretrained("{name}")
processor = Sam2VideoProcessor.from_pretrained("{name}")
session = processor.init_video_session(video=frames)  # a list of images, or an array [T, H, W, 3]
processor.add_inputs_to_inference_session(
    inference_session=session, frame_idx=0, obj_ids=1, input_points=[[[[480, 200]]]], input_labels=[[[1]]]
)
model(inference_session=session, frame_idx=0)
for output in model.propagate_in_video_iterator(session):
    size = [[session.video_height, session.video_width]]
    masks = processor.post_process_masks([output.pred_masks], original_sizes=size)[0]
```

It needs transformers 4.56 or newer. `sam2vt predict {name} clip.mp4 --point 480,200` reads it, too."""


@dataclass(frozen=True)
class Recipe:
    """What is known of a checkpoint's training."""

    config: Mapping[str, Any] | None = None  # None: weights alone
    step: int | None = None
    score: float | None = None  # J&F on the validation videos


def model_card(name: str, image_size: int, recipe: Recipe) -> str:
    """Return the model card, Markdown with the front matter of the hub.

    Of paths only the last part is told: a card is often public.
    """
    start = ((recipe.config or {}).get("model") or {}).get("checkpoint_path")
    sections = {
        "Data": _rows(_data(recipe.config))
        or f"Not recorded in the checkpoint. {GAP} what it was trained on.",
        "Recipe": _rows(_recipe(recipe)) or "Not recorded in the checkpoint.",
        "Scores": _scores(recipe),
        "Licence": _licence(start),
        "How to load it": _LOAD.format(name=name),
    }
    head = ["---", *_front(start), "---", "", f"# {name}", ""]
    tuned = "fine-tuned for video object segmentation with sam2vt" if recipe.config else "for video"
    head += [f"SAM 2 {tuned}, for frames of {image_size} x {image_size} pixels.", ""]
    return "\n".join(head) + "\n" + "\n".join(f"## {title}\n\n{text}\n" for title, text in sections.items())


def _front(start: str | None) -> Iterator[str]:
    yield "library_name: transformers"
    yield "pipeline_tag: mask-generation"
    if start and _META.fullmatch(start):
        yield "license: apache-2.0"
    if start and (hub := re.match(r"hf://([\w.-]+/[\w.-]+)", start)):
        yield f"base_model: {hub[1]}"
    yield "tags: [sam2, video-object-segmentation, sam2vt]"


def _data(config: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    for section, title in (("dataset", "trained on"), ("valdataset", "validated on")):
        data = (config or {}).get(section) or {}
        paths = [each.get("data_path") for each in data.get("datasets") or ()] or [data.get("data_path")]
        if names := [PurePath(str(path)).name for path in paths if path]:
            yield title, ", ".join(names)
    if split := (config or {}).get("split"):
        yield "split", split
    for name in ("prompt_types", "video_clip_length"):
        if value := ((config or {}).get("dataset") or {}).get(name):
            yield name.replace("_", " "), value


def _recipe(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    if recipe.config is None:
        return
    model = recipe.config.get("model") or {}
    start = (model.get("checkpoint_path") or "random weights").removesuffix(f"/{WEIGHTS}")
    yield "started from", start if start.startswith(HUB_PREFIX) else PurePath(start).name
    yield "network", PurePath(str(model.get("config_path")).removesuffix(f"/{CONFIG}")).name
    yield "trained modules", model.get("trainable_modules") or None
    lora = model.get("lora") or {}
    if lora.get("rank"):
        text = f"of rank {lora['rank']} at {', '.join(lora['targets'])}, merged into the weights"
        yield "low-rank adapters", text
    if model.get("adapter") not in (None, "none"):
        yield "adapter", f"{model['adapter']}, merged into the weights"
    yield "steps", recipe.step
    optimizer = recipe.config.get("optimizer") or {}
    yield "optimizer", optimizer.get("type")
    yield "learning rate", optimizer.get("lr")
    yield "weight decay", optimizer.get("weight_decay")
    loss = recipe.config.get("loss") or {}
    yield "loss weights", {name: value for name, value in loss.items() if name.endswith("_weight") and value}
    yield "precision", (recipe.config.get("trainer") or {}).get("precision")
    yield "seed", recipe.config.get("seed")


def _scores(recipe: Recipe) -> str:
    if recipe.score is None:
        return "Not validated here. `sam2vt evaluate` measures J and F on your videos."
    return f"J&F {100 * recipe.score:.1f} on the validation videos, from the first prompt of each object."


def _licence(start: str | None) -> str:
    if start and _META.fullmatch(start):
        text = "It was made from weights of SAM 2, which Meta publishes under the Apache License 2.0."
    else:
        text = f"{GAP} under which licence it may be used."
    return f"{text} The licence of the training data may ask for more."


def _rows(rows: Iterator[tuple[str, Any]]) -> str:
    lines = [f"| {title} | {_shown(value)} |" for title, value in rows if value not in (None, "", {}, [])]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{name} {each}" for name, each in value.items()]
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
