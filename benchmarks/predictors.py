"""The sides of `predict.py`: our Tracker, SAM 2's video predictor, and SAM 2's VOS loop written anew.

Each takes weights, a folder of JPEG frames and the masks of its first frame, and yields the masks of each
frame at the size of the frames. All read one file of weights, and round frames and masks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from sam2.build_sam import build_sam2_video_predictor
from torch.utils.flop_counter import FlopCounterMode

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing.sample_data import draw_scene
from sam2vt.core.model import build
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.prediction.tracker import Tracker

Given = dict[int, np.ndarray]  # object id -> bool [height, width], its mask on the first frame
# (folder of frames, masks of the first) -> per frame bool [objects, height, width], or uint8 [height, width]
Side = Callable[[Path, Given], Iterator[np.ndarray]]

DRAWN = 50  # frames; longer videos repeat them, to and fro


def our_side(weights: Path, resize: str = "stock", overlaps: str = "keep") -> Side:
    """Return our Tracker; with `overlaps` "resolve" it gives label images, as the VOS loop does."""
    tracker = Tracker(str(weights), device="cpu", resize=resize, overlaps=overlaps)

    def track(folder: Path, given: Given) -> Iterator[np.ndarray]:
        tracker.reset()
        for object_id, mask in given.items():
            tracker.add_prompt(object_id, mask=mask)
        for frame in tracker.run(str(folder)):
            yield (
                np.stack([each.mask for each in frame.objects]) if overlaps == "keep" else labels(frame.masks)
            )

    return track


def stock_side(weights: Path) -> Side:
    """Return SAM 2's video predictor as its users build it and its notebook propagates."""
    predictor = _predictor(weights)

    def track(folder: Path, given: Given) -> Iterator[np.ndarray]:
        state = _state(predictor, folder, given)
        for _, _, logits in predictor.propagate_in_video(state):
            yield (logits[:, 0] > 0).cpu().numpy()

    return track


def vos_side(weights: Path) -> Side:
    """Return the loop of SAM 2's `vos_inference.py`: masks of the whole video, then a label image each."""
    predictor = _predictor(weights, hydra_overrides_extra=["++model.non_overlap_masks=true"])

    def track(folder: Path, given: Given) -> Iterator[np.ndarray]:
        state = _state(predictor, folder, given)
        found: dict[int, Given] = {}
        for frame, ids, logits in predictor.propagate_in_video(state):
            found[frame] = {each: (logits[k] > 0).cpu().numpy()[0] for k, each in enumerate(ids)}
        for masks in found.values():
            yield labels(masks)

    return track


SIDES: dict[str, Callable[[Path], Side]] = {
    "ours, overlaps kept": our_side,
    "SAM 2's predictor": stock_side,
    "ours": lambda weights: our_side(weights, overlaps="resolve"),
    "SAM 2's VOS loop": vos_side,
}
PAIRS = (("ours, overlaps kept", "SAM 2's predictor"), ("ours", "SAM 2's VOS loop"))


def gflop_per_frame(side: str, weights: Path, folder: Path, given: Given) -> float:
    """Return GFLOP of products, convolutions and attention, counted while a side tracks a video."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # which PyTorch does not count
    counter = FlopCounterMode(display=False, custom_mapping={attention: _flops_of_attention})
    counter.mod_tracker = _NoModules()
    track = SIDES[side](weights)
    with counter:
        count = sum(1 for _ in track(folder, given))
    return counter.get_total_flops() / count / 1e9


def _flops_of_attention(query: torch.Size, key: torch.Size, *_: Any, **__: Any) -> int:
    return 4 * query.numel() * key[2]


class _NoModules(nullcontext):  # type: ignore[type-arg]
    """In place of PyTorch's tracker of modules, which wants gradients."""

    parents = frozenset({"Global"})


def _predictor(weights: Path, **options: Any) -> Any:
    return build_sam2_video_predictor(f"//{weights.with_suffix('.yaml')}", str(weights), "cpu", **options)


def _state(predictor: Any, folder: Path, given: Given) -> Any:
    state = predictor.init_state(str(folder))
    for object_id, mask in given.items():
        predictor.add_new_mask(state, 0, object_id, mask)
    return state


def labels(masks: Given) -> np.ndarray:
    """Return the ids of objects by pixel, uint8 [height, width]; 0: none. The first of several keeps it."""
    image = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for object_id in sorted(masks, reverse=True):
        image[masks[object_id]] = object_id
    return image


def write_weights(path: Path, network: str, size: int, seed: int = 3) -> Path:
    """Write random weights, and the network's YAML beside them; objects are scored present."""
    torch.manual_seed(seed)
    model = SAM2Model(None, network, device="cpu", image_size=size).load()
    torch.nn.init.constant_(model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    torch.save({"model": model.network.state_dict()}, path)
    config = build.network_config(network, size, model.architecture)
    path.with_suffix(".yaml").write_text("# @package _global_\n" + OmegaConf.to_yaml(config))
    return path


def write_video(root: Path, size: tuple[int, int], num_objects: int) -> tuple[list[Path], Given]:
    """Draw a video as JPEG at size (height, width); return its frames, and masks of squares on the first."""
    scene = draw_scene(np.random.default_rng(0), DRAWN, size, ("front",))
    root.mkdir()
    paths = [root / f"{index}.jpg" for index in range(DRAWN)]
    for index, path in enumerate(paths):
        Image.fromarray(scene.frame(index)[0]).save(path, quality=90)
    side = size[0] // 4
    given = {}
    for place in range(num_objects):
        given[place + 1] = np.zeros(size, bool)
        given[place + 1][side : 2 * side, (place + 1) * side : (place + 2) * side] = True
    return paths, given


def link_frames(frames: list[Path], folder: Path, count: int) -> Path:
    """Return a new folder of so many frames, named as SAM 2 wants them: those given, to and fro."""
    folder.mkdir()
    there_and_back = [*frames, *frames[-2:0:-1]]
    for index in range(count):
        (folder / f"{index:05d}.jpg").symlink_to(there_and_back[index % len(there_and_back)])
    return folder


def real_clip(data: Path, folder: Path) -> tuple[Path, Given]:
    """Return a new folder with a dataset's first video as JPEG, and its objects' masks on the first frame."""
    record = load_records("auto", str(data))[0]
    folder.mkdir()
    for index in record.frames:
        path = folder / f"{index:05d}.jpg"
        if record.frame_paths:
            path.symlink_to(record.frame_paths[index])
        else:
            Image.fromarray(read_frames(record, [index])[0]).save(path, quality=95)
    return folder, load_masks(record, 0)
