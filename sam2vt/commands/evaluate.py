"""J and F of a checkpoint on a dataset, beside repeating each object's first mask: `sam2vt evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sam2vt.configuration.loading import from_dict
from sam2vt.errors import ConfigError

if TYPE_CHECKING:
    from sam2vt.core.evaluation.jf import ObjectScore
    from sam2vt.core.model.sam2 import SAM2Model
    from sam2vt.core.types import VideoRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSettings:
    """How whole videos are read, prompted and scored."""

    prompt: str = "mask"
    num_points: int = 1  # positive points of a point prompt
    seed: int = 0
    score_first_and_last: bool = False  # DAVIS leaves them out
    dataset_type: str = "auto"
    identity: str = "error"
    image_root: str | None = None
    allow_absolute_paths: bool = False
    colours: dict[str, tuple[int, int, int]] | None = None
    num_overlay_videos: int = 4


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and wrote."""

    table: str
    folder: Path
    scores: list[ObjectScore] = field(default_factory=list)
    baseline: list[ObjectScore] = field(default_factory=list)  # repeating each object's first mask


def evaluate_checkpoint(
    checkpoint: str,
    data: str,
    out: str | Path,
    settings: EvaluationSettings | None = None,
    *,
    device: str = "auto",
    config_path: str | None = None,
    image_size: int | None = None,
    base: str | None = None,
) -> Evaluation:
    """Track every video of `data` from its first prompts; write `scores.csv` and `overlays/` below `out`.

    `checkpoint` is a training checkpoint, or weights for `load_model`. Raises DataError, CheckpointError
    and ConfigError for what cannot be used.
    """
    from sam2vt.core.data.formats import load_records
    from sam2vt.core.evaluation.tables import format_scores, write_scores_csv

    settings, folder = settings or EvaluationSettings(), Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error.strerror}; name a folder to write scores and overlays into"
        ) from error
    records = load_records(
        settings.dataset_type,
        data,
        identity=settings.identity,
        image_root=settings.image_root,
        allow_absolute_paths=settings.allow_absolute_paths,
        colours=settings.colours,
    )
    model = load_model(checkpoint, device=device, config_path=config_path, image_size=image_size, base=base)
    scores, baseline = _score_videos(model, records, settings, folder / "overlays")
    write_scores_csv(folder / "scores.csv", scores, baseline)
    return Evaluation(format_scores(scores, baseline), folder, scores, baseline)


def load_model(
    checkpoint: str,
    *,
    device: str = "auto",
    config_path: str | None = None,
    image_size: int | None = None,
    base: str | None = None,
) -> SAM2Model:
    """The model of a checkpoint, in eval mode.

    A training checkpoint knows its network; weights alone take `config_path`, or the YAML of their name
    beside them, as `sam2vt export` writes it. `image_size` replaces the size it was trained or made for;
    `base` is where the checkpoint that the training started from lies now, if it was moved.
    """
    from sam2vt.core.model.checkpoints import load_weights, read_checkpoint
    from sam2vt.core.model.sam2 import SAM2Model, build_from_config

    saved = read_checkpoint(checkpoint).get("hyper_parameters", {}).get("config")
    if saved is None:
        yaml = config_path or _yaml_beside(checkpoint)
        made_for, num_maskmem = _sizes_of(yaml)
        size = image_size or made_for
        model = SAM2Model(checkpoint, yaml, device=device, image_size=size, num_maskmem=num_maskmem)
    elif config_path is not None:
        raise ConfigError(
            f"{checkpoint} is a training checkpoint and knows its network; leave {config_path} out"
        )
    else:
        config = from_dict(saved).model
        config.checkpoint_path, config.device = checkpoint, device
        config.image_size = image_size or config.image_size
        model = build_from_config(config)
        model.trainable_modules = None  # nothing trains here
    model.load(weights=False)
    load_weights(model.network, checkpoint, base)
    return model.eval()


def _yaml_beside(checkpoint: str) -> str:
    beside = Path(checkpoint).with_suffix(".yaml")
    if "://" in checkpoint or not beside.is_file():
        raise ConfigError(
            f"{checkpoint} holds weights alone and no {beside.name} lies beside it: name the network's YAML, "
            f"such as configs/sam2.1/sam2.1_hiera_t.yaml"
        )
    return str(beside)


def _sizes_of(config_path: str) -> tuple[int, int]:
    """`image_size` and `num_maskmem` of a network's YAML."""
    from omegaconf import OmegaConf

    from sam2vt.core.model.build import network_yaml

    content = OmegaConf.load(network_yaml(config_path))
    size = OmegaConf.select(content, "model.image_size", default=512)
    return int(size), int(OmegaConf.select(content, "model.num_maskmem", default=7))


def _score_videos(
    model: SAM2Model, records: Sequence[VideoRecord], settings: EvaluationSettings, overlays: Path
) -> tuple[list[ObjectScore], list[ObjectScore]]:
    from sam2vt.core.data.clips.prompts import PromptGenerator
    from sam2vt.core.evaluation.overlays import OverlayRecorder
    from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask

    generator = PromptGenerator([settings.prompt], num_of_pos_points=settings.num_points)
    common = (model.image_size, generator, settings.seed, settings.score_first_and_last)
    scores: list[ObjectScore] = []
    baseline: list[ObjectScore] = []
    for number, record in enumerate(records, start=1):
        recorder = OverlayRecorder(record) if number <= settings.num_overlay_videos else None
        result = evaluate_video(model, record, *common, on_frame=recorder)
        held = hold_first_mask(record, *common)
        scores += result.scores
        baseline += held.scores
        note = f"J&F {result.mean.jf:.3f}, repeating the first mask {held.mean.jf:.3f}"
        speed = result.num_frames / max(result.seconds, 1e-9)
        log.info("%d of %d, %s: %s; %.1f frames/s", number, len(records), record.video_id, note, speed)
        if recorder is not None:
            recorder.save(overlays, note)
    return scores, baseline
