"""`sam2vt evaluate`: J and F of a checkpoint on whole videos, beside repeating each object's first mask."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sam2vt.commands.arguments import add_data, count, records_of
from sam2vt.config import ModelConfig
from sam2vt.errors import ConfigError
from sam2vt.settings import PROMPT_KINDS, PROMPT_NAMES, choices, default_of, require, settings_of

if TYPE_CHECKING:
    from sam2vt.core.evaluation.jf import ObjectScore
    from sam2vt.core.model.sam2 import SAM2Model
    from sam2vt.core.types import VideoRecord

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("checkpoint", help="a training checkpoint, exported or Meta's weights; path or URI")
    add_data(parser)
    parser.add_argument("--out", help="folder to write to; default: a new one, runs/evaluate/CHECKPOINT")
    kinds = f"{', '.join(PROMPT_KINDS)} (default: %(default)s)"
    parser.add_argument("--prompt", default="mask", choices=PROMPT_NAMES, metavar="KIND", help=kinds)
    parser.add_argument("--points", type=count, default=1, help="positive points of a point prompt")
    parser.add_argument("--device", default="auto", help=settings_of(ModelConfig)["device"].allowed.text)
    parser.add_argument("--network", help="the network's YAML, for weights alone")
    parser.add_argument("--image-size", type=int, help="pixels; default: what the checkpoint was made for")
    parser.add_argument(
        "--postprocessing",
        choices=choices(ModelConfig, "postprocessing"),
        default=default_of(ModelConfig, "postprocessing"),
        help="masks as SAM 2's video predictor makes them, or as in training (default: %(default)s)",
    )
    parser.add_argument(
        "--resize",
        choices=("area", "stock"),
        default="area",
        help="frames resized as in training, or as SAM 2's predictor does (default: %(default)s)",
    )
    parser.add_argument("--base", help="where the weights that the training started from are now, if moved")
    parser.add_argument("--all-frames", action="store_true", help="score first and last frames too")
    parser.add_argument("--overlays", type=count, default=4, help="videos to draw (default: %(default)s)")
    parser.add_argument("--seed", type=count, default=0, help="of the prompts drawn")


def run(options: argparse.Namespace) -> None:
    """Track every video from its first prompts; print the scores, write them and the overlays.

    Raises DataError, CheckpointError and ConfigError for what cannot be used.
    """
    from sam2vt.core.prediction.weights import name_of
    from sam2vt.core.storage.disk import new_folder

    # Before the data is opened, which may take minutes.
    require(ModelConfig, "device", options.device, "--device")
    require(ModelConfig, "image_size", options.image_size, "--image-size")
    wanted = options.out or f"runs/evaluate/{name_of(options.checkpoint)}"
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(new_folder(wanted, alone=options.out is None))
        except OSError as error:
            text = f"{wanted}: {error.strerror}; name a folder to write scores and overlays into"
            raise ConfigError(text) from error
        _evaluate(options, folder)


def _evaluate(options: argparse.Namespace, folder: Path) -> None:
    from sam2vt.core.evaluation.tables import format_scores, write_scores_csv
    from sam2vt.core.prediction.weights import load_model

    # The data is read first: its faults are found in seconds, while a checkpoint may be fetched for minutes.
    records = records_of(options)
    how = {"device": options.device, "config_path": options.network, "image_size": options.image_size}
    how["postprocessing"] = options.postprocessing
    model = load_model(options.checkpoint, **how, base=options.base)
    scores, baseline = _score_videos(model, records, options, folder)
    write_scores_csv(folder / "scores.csv", scores, baseline)
    print(format_scores(scores, baseline))
    print(f"scores and overlays: {folder}")


def _score_videos(
    model: SAM2Model, records: Sequence[VideoRecord], options: argparse.Namespace, folder: Path
) -> tuple[list[ObjectScore], list[ObjectScore]]:
    from sam2vt.core.data.clips.prompts import PromptGenerator
    from sam2vt.core.evaluation.overlays import OverlayRecorder
    from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask

    generator = PromptGenerator([options.prompt], num_of_pos_points=options.points)
    common = (model.image_size, generator, options.seed, options.all_frames)
    scores: list[ObjectScore] = []
    baseline: list[ObjectScore] = []
    for number, record in enumerate(records, start=1):
        recorder = OverlayRecorder(record) if number <= options.overlays else None
        as_stock = options.resize == "stock"
        result = evaluate_video(model, record, *common, on_frame=recorder, resize_as_stock=as_stock)
        # In a video where little moves, the first mask repeated scores high, too.
        held = hold_first_mask(record, *common)
        scores += result.scores
        baseline += held.scores
        reached, of_baseline = (each.mean.values["J&F"] for each in (result, held))
        note = f"J&F {reached:.3f}, repeating the first mask {of_baseline:.3f}"
        speed = result.num_frames / max(result.seconds, 1e-9)
        log.info("%d of %d, %s: %s; %.1f frames/s", number, len(records), record.video_id, note, speed)
        if recorder is not None:
            recorder.save(folder / "overlays", note)
    return scores, baseline
