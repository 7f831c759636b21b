"""The command that tries a checkpoint on a video: one click on an object, where its mask is thickest."""

from __future__ import annotations

import os
import shlex

import cv2
import numpy as np

from sam2vt.core.data.masks.loading import iterate_first_masks
from sam2vt.core.types import VideoRecord


def suggest_prediction(checkpoint: str, record: VideoRecord) -> str | None:
    """Return a `sam2vt predict` of the first object of a video, as a user would type it.

    None for a video of a pack, which is no file of its own. Raises DataError for masks that cannot be read.
    """
    source = record.video_path
    if record.frame_paths is not None:
        source = os.path.dirname(record.frame_paths[0])
    if source is None:
        return None
    frame, _, mask = next(iterate_first_masks(record))
    x, y = _thickest(mask)
    # A pattern never means a dataset, whose own masks would be the prompts.
    files = os.path.join(source, "*") if record.frame_paths is not None else source
    at = ["--frame", str(frame)] if frame else []
    return shlex.join(["sam2vt", "predict", checkpoint, files, "--point", f"{x},{y}", *at])


def _thickest(mask: np.ndarray) -> tuple[int, int]:
    """Return (x, y) of the pixel that is furthest from the mask's edge."""
    padded = np.pad(mask, 1).astype(np.uint8)  # the frame's border is an edge, too
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)
