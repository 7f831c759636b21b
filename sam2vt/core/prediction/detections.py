"""Keep detections by video and frame: boxes or masks with classes and scores, from any detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.prediction.entries import Faults, at
from sam2vt.core.prediction.prompt_rules import are_shares
from sam2vt.errors import DataError


@dataclass(frozen=True)
class Detection:
    """One object that a detector found on one frame: a box or a mask."""

    name: str  # its class
    score: float = 1.0  # from 0 to 1
    box: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1 in pixels
    rle: Mapping[str, Any] | None = None  # of its mask
    where: str = ""  # its place in the file, for messages

    def mask(self) -> np.ndarray | None:
        """Return its mask, bool [height, width]; None for a box."""
        if self.rle is None:
            return None
        height, width = self.rle["size"]
        return segmentation_to_mask(self.rle, height, width, self.where)


@dataclass(frozen=True)
class Detections:
    """The detections of a file, by video and frame."""

    path: str
    videos: Mapping[str | None, Mapping[int, tuple[Detection, ...]]]  # the key None: of the only video
    num_images: Mapping[str | None, int]  # of a video, where a COCO JSON tells; as many as it has frames
    has_sizes: bool = False  # the file gives boxes as x, y, width, height

    def for_video(
        self, video_id: str, height: int, width: int, num_frames: int | None = None
    ) -> dict[int, tuple[Detection, ...]]:
        """Return frame index -> its detections, boxes cut at the frame's edges, frames ascending.

        `height` and `width` are those of the upright frames in pixels; `num_frames` is None if unknown.
        Raises one DataError for all detections that do not fit the video.
        """
        key = video_id if video_id in self.videos else None
        if key not in self.videos:
            raise DataError(f"{self.path}: does not list the video {video_id}; add it", video=video_id)
        faults = Faults(self.path)
        self._check_frames(faults, key, f"video {video_id}", num_frames)
        self._check_boxes(faults, key, f"video {video_id}", (width, height))
        fitted = {
            frame: tuple(_fit(faults, each, height, width) for each in detections)
            for frame, detections in sorted(self.videos[key].items())
        }
        faults.check(video=video_id)
        return fitted

    def _check_frames(self, faults: Faults, key: str | None, where: str, num_frames: int | None) -> None:
        num_images = self.num_images.get(key)
        if num_frames is not None and num_images not in (None, num_frames):
            faults.add(
                where,
                f"the JSON of images lists {num_images} images of it, but it has {num_frames} frames: which "
                "of them are meant is not clear; list every frame, or write detections with frame indices",
            )
        elif num_frames is not None:
            for frame in (each for each in self.videos[key] if each >= num_frames):
                text = f"is not in the video, which has {num_frames} frames; allowed is 0 to {num_frames - 1}"
                faults.add(at(where, f"frame {frame}"), text)

    def _check_boxes(self, faults: Faults, key: str | None, where: str, size: tuple[int, int]) -> None:
        """Add a fault if all boxes seem to be in shares of the frame, or corners in place of sizes."""
        frames = self.videos[key].values()
        boxes = [each.box for detections in frames for each in detections if each.box is not None]
        if are_shares([value for box in boxes for value in box]):
            text = (
                "are between 0 and 1, as in shares of the frame; allowed are pixels: multiply x by the width"
            )
            faults.add(where, f"its boxes {text}, {size[0]}, and y by the height, {size[1]}")
        elif self.has_sizes and (out := next((box for box in boxes if _sticks_out(box, size)), None)):
            given = [(*box[:2], *(box[axis + 2] - box[axis] for axis in (0, 1))) for box in boxes]
            if all(box[axis] < box[axis + 2] <= size[axis] for box in given for axis in (0, 1)):
                shown = ", ".join(f"{each:g}" for each in given[boxes.index(out)])
                text = (
                    f"such as ({shown}), fit the frame of {size[0]}x{size[1]} as x0, y0, x1, y1 and stick out"
                )
                faults.add(where, f"its boxes, {text} as COCO's x, y, width, height: write width and height")


def _sticks_out(box: tuple[float, ...], size: tuple[int, int]) -> bool:
    """Return whether a box ends beyond the frame by more than a tenth of it, as no detector draws it."""
    return any(box[axis + 2] > 1.1 * size[axis] for axis in (0, 1))


def _fit(faults: Faults, detection: Detection, height: int, width: int) -> Detection:
    """Return a detection on its frame; detectors' boxes may stick out of it."""
    place = detection.where.removeprefix(f"{faults.path}: ")
    if detection.rle is not None and list(detection.rle["size"]) != [height, width]:
        own = f"{detection.rle['size'][1]}x{detection.rle['size'][0]}"
        faults.add(
            place, f"the mask is {own} (width x height), its frame is {width}x{height}; allowed is one size"
        )
    if detection.box is None:
        return detection
    x0, y0, x1, y1 = detection.box
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        shown = ", ".join(f"{each:g}" for each in detection.box)
        allowed = f"allowed is x from 0 to {width}, y from 0 to {height}, in pixels of the source"
        faults.add(place, f"the box ({shown}) is outside the frame of {width}x{height}; {allowed}")
    return replace(detection, box=cut)
