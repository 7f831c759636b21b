"""Suggest a command that tries a checkpoint on a video, with a kind of prompt that its training has seen."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from itertools import islice

import cv2
import numpy as np

from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, names_in
from sam2vt.core.data.masks.loading import iterate_first_masks
from sam2vt.core.evaluation.jf import ObjectScore
from sam2vt.core.types import VideoRecord

_MOST_VIDEOS = 100


def suggest_prediction(
    checkpoint: str,
    videos: Sequence[VideoRecord],
    scores: Sequence[ObjectScore],
    kinds: Collection[str],
    dataset: str,
) -> str | None:
    """Return a `sam2vt predict` command for the object that scored best.

    The prompt is a click or a box, whichever of the `kinds` was trained. If only masks were, or if no pattern
    names the frames alone, the command takes the whole `dataset`, whose first masks are the prompts. None for
    a video that is not a file, as in a pack. Raises DataError for masks that cannot be read.
    """
    best = max(scores, key=lambda each: np.nan_to_num(each.values["J&F"]), default=None)
    # A table may have a million videos, each of which is read when it is asked for.
    first = list(islice(videos, _MOST_VIDEOS))
    record = next((each for each in first if best and each.video_id == best.video_id), first[0])
    source = record.video_path
    if record.frame_paths is not None:
        source = os.path.dirname(record.frame_paths[0])
    if source is None:
        return None
    masks = list(iterate_first_masks(record))
    frame, _, mask = next((each for each in masks if best and each[1] == best.object_id), masks[0])
    how = next((show(mask) for kind, show in _SHOWN.items() if kind in kinds), None)
    if how is None or _has_other_images(record):
        return shlex.join([*program(), "predict", checkpoint, dataset])
    # A pattern never means a dataset, whose own masks would be the prompts.
    files = os.path.join(source, "*") if record.frame_paths is not None else source
    at = ["--frame", str(frame)] if frame else []
    return shlex.join([*program(), "predict", checkpoint, files, *how, *at])


def _has_other_images(record: VideoRecord) -> bool:
    """Return whether other images are beside the frames, such as masks, or frames of other videos."""
    if record.frame_paths is None:
        return False
    frames = {os.path.basename(each) for each in record.frame_paths}
    names = names_in(os.path.dirname(record.frame_paths[0]))
    # The pattern leaves hidden ones out.
    others = (each for each in names if each[0] != "." and each not in frames)
    return any(each.lower().endswith(IMAGE_EXTENSIONS) for each in others)


def program() -> list[str]:
    """Return the words that start the command line: `make demo` does not put .venv/bin on the PATH."""
    if shutil.which("sam2vt"):
        return ["sam2vt"]
    beside = os.path.join(os.path.dirname(sys.executable), "sam2vt")
    return [beside] if os.path.exists(beside) else [sys.executable, "-m", "sam2vt"]


def _click(mask: np.ndarray) -> list[str]:
    """Return the option of a click on the pixel that is furthest from the mask's edge."""
    padded = np.pad(mask, 1).astype(np.uint8)  # the frame's border is an edge, too
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return ["--point", f"{x},{y}"]


def _box(mask: np.ndarray) -> list[str]:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return ["--box", f"{left},{top},{left + width},{top + height}"]


# By kind of prompt, the one that is less work to type first.
_SHOWN: dict[str, Callable[[np.ndarray], list[str]]] = {"point": _click, "box": _box, "bbox": _box}
