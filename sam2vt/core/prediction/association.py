"""Match detections to tracked objects; detections without a match begin new objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.prediction.detections import Detection
from sam2vt.core.prediction.types import FrameMasks, ObjectPrompt
from sam2vt.errors import ConfigError


class Association:
    """Turns the detections of one video into prompts, frame by frame.

    A detection matches a tracked object of its class, or one without a name, by the IoU of masks; if the
    detection is a box, by the IoU of boxes. A detection without a match begins an object, with the next free
    id and the class as its name. A match prompts its object again if the last prompt is `reprompt_every`
    frames ago (0: never). An object that came from a detection ends when it was absent for `end_after` frames
    (0: never). It is absent if it has no mask, or if the latest frame with detections did not match it.
    """

    def __init__(
        self,
        detections: Mapping[int, Sequence[Detection]],
        match_iou: float = 0.5,
        reprompt_every: int = 0,
        taken: Collection[int] = (),
        end_after: int = 0,
    ) -> None:
        """`taken` are ids that other prompts of the video use. Raises ConfigError for invalid numbers."""
        if not 0 < match_iou <= 1:
            raise ConfigError(f"--match-iou: is {match_iou}; allowed is a number above 0, up to 1")
        for option, value in (("--reprompt-every", reprompt_every), ("--end-after", end_after)):
            if value < 0:
                raise ConfigError(f"{option}: is {value}; allowed is a number of frames, 0: never")
        self.detections = detections
        self.match_iou, self.reprompt_every, self.end_after = match_iou, reprompt_every, end_after
        self._next_id = max(taken, default=0) + 1
        self._names: dict[int, str] = {}
        self._prompted: dict[int, int] = {}  # object id -> the frame on which a detection last prompted it
        self._seen: dict[int, int] = {}  # object that a detection began -> the last frame that had it
        self._unmatched: set[int] = set()  # of these, on the latest frame with detections

    def at(self, frame: int, masks: FrameMasks | None) -> tuple[list[ObjectPrompt], dict[int, str]]:
        """Return the prompts of a frame, and the names of the objects that begin there.

        `masks` are the tracked masks of this frame; None if nothing is tracked yet.
        """
        detections = self.detections.get(frame, ())
        tracked = masks.objects if masks is not None else ()
        self._next_id = max([self._next_id, *(each.object_id + 1 for each in tracked)])
        self._unmatched = set(self._seen)
        if not detections:
            return [], {}
        # An object that is absent has no place at which it could match.
        tracks = {each.object_id: encode_mask(each.mask) for each in tracked if each.mask.any()}
        names = {each.object_id: self._names.get(each.object_id, each.name) for each in tracked}
        matches = self._match(detections, tracks, names)
        self._unmatched -= set(matches.values())
        prompts, started = [], {}
        for place, detection in enumerate(detections):
            object_id = matches.get(place)
            if object_id is None:
                object_id, self._next_id = self._next_id, self._next_id + 1
                started[object_id] = self._names[object_id] = detection.name
                self._seen[object_id] = frame
            elif not self._is_due(object_id, frame):
                continue
            self._prompted[object_id] = frame
            prompts.append(
                ObjectPrompt(
                    object_id, frame, box=detection.box, mask=detection.mask(), where=detection.where
                )
            )
        return sorted(prompts, key=lambda each: each.object_id), started

    def ended(self, masks: FrameMasks) -> list[int]:
        """Return the objects that end with a frame, given its final masks; their ids are never used again."""
        there = {each.object_id for each in masks.objects if each.mask.any()} - self._unmatched
        self._seen |= dict.fromkeys(there & self._seen.keys(), masks.frame)
        over = [key for key, seen in self._seen.items() if 0 < self.end_after <= masks.frame - seen]
        for key in over:
            del self._seen[key], self._names[key], self._prompted[key]
        return over

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`, made of numbers, texts and lists only, as in JSON."""
        names = sorted(self._names.items())
        return {
            "next_id": self._next_id,
            "names": [[key, name] for key, name in names],
            "prompted": [[key, frame] for key, frame in sorted(self._prompted.items())],
            "seen": [[key, frame] for key, frame in sorted(self._seen.items())],
            "unmatched": sorted(self._unmatched),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as after the frame at which `state` was taken."""
        self._next_id = state["next_id"]
        self._names = dict(map(tuple, state["names"]))
        self._prompted = dict(map(tuple, state["prompted"]))
        self._seen, self._unmatched = dict(map(tuple, state["seen"])), set(state["unmatched"])

    def _is_due(self, object_id: int, frame: int) -> bool:
        # Backwards frames count down. An object that the user prompted is due at its first match.
        last = self._prompted.get(object_id)
        return self.reprompt_every > 0 and (last is None or abs(frame - last) >= self.reprompt_every)

    def _match(
        self, detections: Sequence[Detection], tracks: Mapping[int, dict[str, Any]], names: Mapping[int, str]
    ) -> dict[int, int]:
        """Return the place of each matched detection -> the id of its object."""
        ids = list(tracks)
        if not ids:
            return {}
        overlaps = np.stack([_ious(each, list(tracks.values())) for each in detections])
        # An object without a name, which a user has shown, may be of any class.
        same_class = np.array([[names[key] in ("", each.name) for key in ids] for each in detections])
        # First, so that no pair below the threshold takes the place of one above it.
        overlaps[~same_class | (overlaps < self.match_iou)] = 0
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        return {int(row): ids[column] for row, column in zip(rows, columns) if overlaps[row, column] > 0}


def _ious(detection: Detection, tracks: list[dict[str, Any]]) -> np.ndarray:
    """Return the IoU of a detection with each track, float64 [tracks]: of masks, or of the masks' boxes."""
    others = [0] * len(tracks)  # none of them is a crowd
    mask = detection.mask()
    if mask is not None:
        return coco_mask.iou([encode_mask(mask)], tracks, others)[0]
    assert detection.box is not None
    x0, y0, x1, y1 = detection.box
    box = np.array([[x0, y0, x1 - x0, y1 - y0]])
    return coco_mask.iou(box, coco_mask.toBbox(tracks), others)[0]
