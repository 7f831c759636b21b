"""Write objects.csv: a table of all videos with the place of each object on each frame."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.output import Output
from sam2vt.core.storage.disk import write_whole

FILE = "objects.csv"
# Pixels count from 0 at the top left. x and y are the mean of the mask's pixels; the box has its first pixel
# at (x0, y0) and ends before (x1, y1), so that x1 - x0 is its width.
COLUMNS = (
    *("video", "frame", "object", "name", "area", "x", "y", "x0", "y0", "x1", "y1"),
    *("presence", "predicted_iou"),
)


def _join(videos: Sequence[TrackedVideo], folder: Path) -> None:
    # Line ends are csv's own; a byte order mark would become part of the first column's name.
    with write_whole(folder / FILE) as written, written.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for video in videos:
            table.writerows(_rows(video))


def _rows(video: TrackedVideo) -> Iterator[list[object]]:
    for frame, entries in video.entries():
        for each in entries:
            place = _place(each.mask) if each.area else [""] * 6
            scores = [value if math.isfinite(value) else "" for value in (each.presence, each.iou)]
            name = video.names.get(each.object_id, "")
            yield [video.video_id, frame, each.object_id, name, each.area, *place, *scores]


def _place(mask: np.ndarray) -> list[object]:
    """Return centre and box."""
    pixels = np.ascontiguousarray(mask, dtype=np.uint8)
    moments = cv2.moments(pixels, binaryImage=True)
    left, top, width, height = cv2.boundingRect(pixels)
    centre = [round(moments[name] / moments["m00"], 2) for name in ("m10", "m01")]
    return [*centre, left, top, left + width, top + height]


CSV = Output(f"{FILE}, a row per object and frame: area, centre, box, presence, predicted IoU", join=_join)
