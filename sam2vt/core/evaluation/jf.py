"""Region similarity J and contour accuracy F of masks, as DAVIS defines them.

J is the IoU of two masks. F is the F-measure of their boundaries, where a boundary pixel is matched if
one of the other mask lies within a tolerance: a disk whose radius is 0.008 of the image's diagonal,
rounded up. Both are 1 where both masks are empty.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from sam2vt.errors import DataError

MONITOR = "val/J&F"  # the metric by which weights are kept, ranked and training stops early
BOUNDARY_TOLERANCE = 0.008  # share of the image's diagonal

Mask = np.ndarray  # bool [height, width]


class ObjectScore(NamedTuple):
    """J, F and their mean, each the mean over the object's scored frames (NaN where there is none)."""

    video_id: str
    object_id: int
    j: float
    f: float
    jf: float
    num_frames: int


class MeanScore(NamedTuple):
    """Means over objects; NaN where none was scored."""

    j: float
    f: float
    jf: float
    num_objects: int


def mean_score(scores: Iterable[ObjectScore]) -> MeanScore:
    """The mean over the objects that were scored on some frame, each counting the same, as DAVIS does."""
    scored = [score for score in scores if score.num_frames]
    if not scored:
        return MeanScore(math.nan, math.nan, math.nan, 0)
    j, f = (sum(values) / len(scored) for values in zip(*((score.j, score.f) for score in scored)))
    return MeanScore(j, f, (j + f) / 2, len(scored))


def jaccard(pred: Mask, gt: Mask, void: Mask | None = None) -> float:
    """J of two masks; all bool [height,width]. Pixels of `void` count on neither side."""
    pred, gt = _without_void(pred, gt, void)
    intersection = np.count_nonzero(pred & gt)
    union = np.count_nonzero(pred | gt)
    return intersection / union if union else 1.0


def boundary_f(pred: Mask, gt: Mask, void: Mask | None = None) -> float:
    """F of two masks; all bool [height,width]. Pixels of `void` are taken out of both before."""
    pred, gt = _without_void(pred, gt, void)
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*pred.shape))
    crop = _crop(pred | gt)
    pred_boundary, gt_boundary = boundary(pred[crop]), boundary(gt[crop])
    num_pred, num_gt = np.count_nonzero(pred_boundary), np.count_nonzero(gt_boundary)
    if not num_pred or not num_gt:
        return float(num_pred == num_gt)
    precision = np.count_nonzero(pred_boundary & _dilate(gt_boundary, radius)) / num_pred
    recall = np.count_nonzero(gt_boundary & _dilate(pred_boundary, radius)) / num_gt
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Pixels [height,width] that differ from their right, lower or lower right neighbour.

    In the last row only the right one is looked at, in the last column only the lower one.
    """
    edge = np.zeros(mask.shape, dtype=bool)
    inner = mask[:-1, :-1]
    edge[:-1, :-1] = (inner ^ mask[:-1, 1:]) | (inner ^ mask[1:, :-1]) | (inner ^ mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edge


class VideoScore:
    """J and F of the objects of one video, fed frame by frame; keeps a few numbers an object.

    As DAVIS does, the first and the last frame that are added are left out, unless
    `score_first_and_last`. As its evaluators count, an object's frames start with the first scored
    frame on which the prediction or the ground truth shows it, and an object that the ground truth
    shows on no scored frame has no score.
    """

    def __init__(self, score_first_and_last: bool = False, *, video_id: str = "") -> None:
        self.score_first_and_last = score_first_and_last
        self.video_id = video_id
        self._sums: dict[int, _Sum] = {}
        self._last_frame: int | None = None
        # The newest frame waits here until the next one shows that it is not the last.
        self._newest: dict[int, _Sum] = {}

    def add(
        self,
        frame_index: int,
        predictions: Mapping[int, Mask],
        ground_truth: Mapping[int, Mask],
        void: Mask | None = None,
        left_out: Collection[int] = (),
    ) -> None:
        """Score one frame, later than the ones before; masks bool [height,width] by object id.

        An object that one side lacks is empty there. Objects in `left_out` are not scored on this
        frame, such as those not prompted yet. Raises DataError on masks of different sizes.
        """
        assert self._last_frame is None or frame_index > self._last_frame, (self._last_frame, frame_index)
        is_first = self._last_frame is None
        self._last_frame = frame_index
        self._sums, self._newest = _joined(self._sums, self._newest), {}
        if is_first and not self.score_first_and_last:
            return
        for object_id in {*predictions, *ground_truth, *self._sums}.difference(left_out):
            pred, gt = predictions.get(object_id), ground_truth.get(object_id)
            self._check_sizes(frame_index, object_id, pred, gt, void)
            score = _score(pred, gt, void)
            if score is not None:
                self._newest[object_id] = score
            elif object_id in self._sums:
                self._newest[object_id] = _Sum(1.0, 1.0, 1, False)

    def result(self) -> list[ObjectScore]:
        """One score an object of the ground truth, by object id; may be asked for at any time."""
        sums = _joined(self._sums, self._newest) if self.score_first_and_last else self._sums
        return [
            ObjectScore(self.video_id, object_id, j / n, f / n, (j + f) / (2 * n), n)
            for object_id, (j, f, n, in_ground_truth) in sorted(sums.items())
            if in_ground_truth
        ]

    def _check_sizes(self, frame_index: int, object_id: int, *masks: Mask | None) -> None:
        shapes = {mask.shape for mask in masks if mask is not None}
        if len(shapes) > 1:
            raise DataError(
                f"video {self.video_id!r}, frame {frame_index}, object {object_id}: prediction, ground truth "
                f"and void must have one size [height,width], got {sorted(shapes)}"
            )


class _Sum(NamedTuple):
    j: float
    f: float
    num_frames: int
    in_ground_truth: bool  # on one of these frames the ground truth shows the object


def _joined(sums: Mapping[int, _Sum], newest: Mapping[int, _Sum]) -> dict[int, _Sum]:
    joined = dict(sums)
    for object_id, (j, f, n, there) in newest.items():
        old = sums.get(object_id, _Sum(0.0, 0.0, 0, False))
        joined[object_id] = _Sum(old.j + j, old.f + f, old.num_frames + n, old.in_ground_truth or there)
    return joined


def _score(pred: Mask | None, gt: Mask | None, void: Mask | None) -> _Sum | None:
    """J and F on one frame; None where neither side shows the object."""
    in_pred, in_gt = pred is not None and bool(pred.any()), gt is not None and bool(gt.any())
    if not in_pred and not in_gt:
        return None
    if pred is None or gt is None:
        some = gt if pred is None else pred
        assert some is not None
        pred, gt = (np.zeros_like(some) if mask is None else mask for mask in (pred, gt))
    return _Sum(jaccard(pred, gt, void), boundary_f(pred, gt, void), 1, in_gt)


def _without_void(pred: Mask, gt: Mask, void: Mask | None) -> tuple[Mask, Mask]:
    pred, gt = pred.astype(bool, copy=False), gt.astype(bool, copy=False)
    if void is None:
        return pred, gt
    known = ~void.astype(bool, copy=False)
    return pred & known, gt & known


def _crop(mask: Mask) -> tuple[slice, slice]:
    """The mask's bounding box and a pixel around it: all boundary pixels lie there, and only there
    dilated boundaries are looked at, so that results are those of the whole image."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def _dilate(edge: Mask, radius: int) -> Mask:
    return cv2.dilate(edge.view(np.uint8), _disk(radius)).view(bool)


@lru_cache(maxsize=8)
def _disk(radius: int) -> np.ndarray:
    """uint8 [2 radius + 1, 2 radius + 1]: 1 where the distance to the centre is at most the radius."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)
