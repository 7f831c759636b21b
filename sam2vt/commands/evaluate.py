"""`sam2vt evaluate`: J and F of a checkpoint on whole videos, beside the first masks and another model."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sam2vt.commands.arguments import add_data, add_weights, check_weights, count, positive, records_of
from sam2vt.config import Config
from sam2vt.errors import ConfigError
from sam2vt.settings import PROMPT_KINDS, PROMPT_NAMES, choices, default_of

if TYPE_CHECKING:
    from sam2vt.core.data.clips.prompts import PromptGenerator
    from sam2vt.core.evaluation.jf import ObjectScore
    from sam2vt.core.evaluation.video import OnFrame
    from sam2vt.core.prediction.weights import Weights
    from sam2vt.core.types import VideoRecord

log = logging.getLogger(__name__)

ZERO_SHOT = "zero-shot"
# What goes into scores.json beside the scores, since they depend on it.
_SETTINGS = ("data", "prompt", "points", "seed", "all_frames", "resize", "postprocessing", "precision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "checkpoint",
        help="a run's folder, a checkpoint, an export, transformers' or Meta's weights; path or URI",
    )
    add_data(parser)
    parser.add_argument("--against", metavar="OTHER", help=f"compare with this checkpoint, or {ZERO_SHOT}")
    parser.add_argument("--out", help="folder to write to; default: a new one, runs/evaluate/CHECKPOINT")
    kinds = f"{', '.join(PROMPT_KINDS)} (default: %(default)s)"
    parser.add_argument("--prompt", default="mask", choices=PROMPT_NAMES, metavar="KIND", help=kinds)
    parser.add_argument("--points", type=positive, default=1, help="positive points of a point prompt")
    add_weights(parser)
    parser.add_argument("--all-frames", action="store_true", help="score first and last frames too")
    parser.add_argument(
        "--overlays", type=count, default=10, help="worst videos to draw (default: %(default)s)"
    )
    style = {"default": default_of(Config, "style"), "choices": choices(Config, "style")}
    parser.add_argument("--style", **style, help="ground of the drawings (default: %(default)s)")
    parser.add_argument("--save-masks", action="store_true", help="write the predicted masks as palette PNGs")
    parser.add_argument("--seed", type=count, default=0, help="of the prompts drawn, and of the interval")


class _Scores(NamedTuple):
    """The scores of the same objects."""

    own: list[ObjectScore]
    baseline: list[ObjectScore]
    others: list[ObjectScore]  # of --against


def run(options: argparse.Namespace) -> None:
    """Track every video from its first prompts; print the scores, write them, the overlays and the masks.

    Raises DataError, CheckpointError and ConfigError for what cannot be used.
    """
    from sam2vt.core.data.clips.prompts import PromptGenerator
    from sam2vt.core.storage.disk import new_folder

    # Before the data is opened, which may take minutes: everything else that can be wrong.
    check_weights(options)
    _check_out(options.out)
    generator = PromptGenerator([options.prompt], num_of_pos_points=options.points)
    if "://" not in options.data and not Path(options.data).expanduser().exists():
        records_of(options)  # raises, and nobody waited for a checkpoint
    weights, other = _open_both(options)
    wanted = options.out or f"runs/evaluate/{weights.name}"
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(new_folder(wanted, alone=options.out is None))
        except OSError as error:
            text = f"{wanted}: {error.strerror}; name a folder to write scores and overlays into"
            raise ConfigError(text) from error
        scores = _score_videos(weights, other, records_of(options), generator, options, folder)
        _report(scores, weights, other, options, folder)


def _check_out(out: str | None) -> None:
    """Raise ConfigError if the folder has results: some of their files would stay among the new ones."""
    names = ("scores.csv", "scores.json", "overlays", "masks")
    if out and (earlier := next((each for each in names if (Path(out) / each).exists()), None)):
        raise ConfigError(f"--out {out}: already has {earlier}; name another folder")


def _open_both(options: argparse.Namespace) -> tuple[Weights, Weights | None]:
    """Return the checkpoint's weights and those of --against, at the size of the first: prompts are equal."""
    from sam2vt.core.prediction.weights import open_weights, zero_shot

    how: dict[str, Any] = {name: getattr(options, name) for name in ("device", "precision", "postprocessing")}
    size = options.image_size
    weights = open_weights(
        options.checkpoint, config_path=options.network, image_size=size, base=options.base, **how
    )
    if options.against is None:
        return weights, None
    if options.against == ZERO_SHOT:
        return weights, zero_shot(weights, options.base)
    other = open_weights(options.against, image_size=weights.model.image_size, base=options.base, **how)
    if other.digest == weights.digest:
        raise ConfigError(f"--against {options.against}: is the same file as {weights.path}; name another")
    return weights, other


def _score_videos(
    weights: Weights,
    other: Weights | None,
    records: Sequence[VideoRecord],
    generator: PromptGenerator,
    options: argparse.Namespace,
    folder: Path,
) -> _Scores:
    from sam2vt.core.evaluation.mask_files import MaskFolder
    from sam2vt.core.evaluation.overlays import OverlayRecorder, WorstVideos
    from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask

    common = (weights.model.image_size, generator, options.seed, options.all_frames)
    as_stock = options.resize == "stock"
    worst, scores = WorstVideos(options.overlays), _Scores([], [], [])
    masks = MaskFolder(folder / "masks", records) if options.save_masks else None
    for number, record in enumerate(records, start=1):
        recorder = OverlayRecorder(record, style=options.style) if options.overlays else None
        on_frame = _each(recorder, masks.writer(record) if masks else None)
        with weights.autocast():
            result = evaluate_video(weights.model, record, *common, on_frame, as_stock)
        # In a video where little moves, the first mask repeated scores high, too.
        held = hold_first_mask(record, *common)
        scores.own.extend(result.scores)
        scores.baseline.extend(held.scores)
        reached, of_baseline = (each.mean.values["J&F"] for each in (result, held))
        note = f"J&F {reached:.3f}, repeating the first mask {of_baseline:.3f}"
        if other is not None:
            with other.autocast():
                compared = evaluate_video(other.model, record, *common, None, as_stock)
            scores.others.extend(compared.scores)
            note = f"{note}, {other.label} {compared.mean.values['J&F']:.3f}"
        speed = result.num_frames / max(result.seconds, 1e-9)
        log.info("%d of %d, %s: %s; %.1f frames/s", number, len(records), record.video_id, note, speed)
        if recorder is not None:
            worst.add(reached, recorder, f"{weights.label}: {note}")
    worst.save(folder / "overlays")
    return scores


def _each(*takers: OnFrame | None) -> OnFrame | None:
    """Return what gives each frame to all of the takers; None without any."""
    given = [taker for taker in takers if taker is not None]

    def take(*frame: Any) -> None:
        for taker in given:
            taker(*frame)

    return take if given else None


def _report(
    scores: _Scores, weights: Weights, other: Weights | None, options: argparse.Namespace, folder: Path
) -> None:
    """Print and write the scores, with the names of what they are of."""
    from sam2vt.core.evaluation.summary import format_summary, write_scores_json
    from sam2vt.core.evaluation.tables import format_scores, write_scores_csv

    compared = {"checkpoint": weights, **({"against": other} if other else {})}
    labels = {name: each.label for name, each in compared.items()}
    write_scores_csv(folder / "scores.csv", *scores, labels=labels)
    header: dict[str, Any] = {
        name: {"name": each.name, "path": each.path, "sha256": each.digest} for name, each in compared.items()
    }
    settings = {name: getattr(options, name) for name in _SETTINGS}
    header["settings"] = {**settings, "image_size": weights.model.image_size, "device": weights.model.device}
    write_scores_json(folder / "scores.json", header, *scores, seed=options.seed)
    print(format_scores(*scores))
    print()
    print(format_summary(*scores, against=labels.get("against", ""), seed=options.seed))
    for name, each in compared.items():
        print(f"{name}: {each.label}\n  {each.path}")
    print(f"results:\n  {folder}")
