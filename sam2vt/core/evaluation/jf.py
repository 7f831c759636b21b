"""Table of the metrics of masks, and their means over a video: J and F as DAVIS defines them.

J, region similarity, is the IoU of two masks. F, contour accuracy, is the F-measure of their boundaries: a
boundary pixel is matched if the other mask has one within a tolerance, a disk whose radius is 0.008 of the
image's diagonal, rounded up. Both are 1 if both masks are empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import cv2
import numpy as np

from sam2vt.core.evaluation.identity import Presence, Swaps, count_swap
from sam2vt.errors import DataError

BOUNDARY_TOLERANCE = 0.008  # share of the image's diagonal

Mask = np.ndarray  # bool [height, width]


def jaccard(pred: Mask, gt: Mask, void: Mask | None = None) -> float:
    """Return J of two masks; all bool [height,width]. Pixels of `void` count on neither side."""
    pred, gt = _without_void(pred, gt, void)
    intersection = np.count_nonzero(pred & gt)
    union = np.count_nonzero(pred | gt)
    return intersection / union if union else 1.0


def boundary_f(pred: Mask, gt: Mask, void: Mask | None = None) -> float:
    """Return F of two masks; all bool [height,width]. Pixels of `void` are removed from both before."""
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


class Metric(NamedTuple):
    """A row of the table: a function of two masks (prediction, ground truth, void), or a mean of other rows.

    Its value for an object is the mean over the object's scored frames, for a set the mean over objects.
    """

    of_masks: Callable[[Mask, Mask, Mask | None], float] | None = None  # 1 for two empty masks
    mean_of: tuple[str, ...] = ()


# Names of columns in tables and `val_scores.csv`, and, after "val/", of what a validation logs.
METRICS = {
    "J": Metric(jaccard),
    "F": Metric(boundary_f),
    "J&F": Metric(mean_of=("J", "F")),
}
MONITOR = "val/J&F"  # ranks checkpoints and trials, and stops training early


class ObjectScore(NamedTuple):
    """Each metric's mean over the object's scored frames (NaN if there is none)."""

    video_id: str
    object_id: int
    values: dict[str, float]  # by the names of `METRICS`
    num_frames: int
    name: str = ""  # of the object, where its dataset has one
    swaps: Swaps = Swaps()  # over the same frames
    presence: Presence = Presence()  # likewise


class MeanScore(NamedTuple):
    """Each metric's mean over objects; NaN if none was scored."""

    values: dict[str, float]  # by the names of `METRICS`
    num_objects: int


BY_OBJECT = attrgetter("video_id", "object_id")  # the order of rows
UNSCORED = dict.fromkeys(METRICS, math.nan)


def mean_score(scores: Iterable[ObjectScore]) -> MeanScore:
    """Return the mean over the objects scored on some frame, each counting the same, as DAVIS does."""
    scored = [score for score in scores if score.num_frames]
    if not scored:
        return MeanScore(UNSCORED, 0)
    means = {name: sum(score.values[name] for score in scored) / len(scored) for name in _OF_MASKS}
    return MeanScore(_means(means, 1), len(scored))


_OF_MASKS = {name: metric.of_masks for name, metric in METRICS.items() if metric.of_masks is not None}


def _means(sums: Mapping[str, float], number: int) -> dict[str, float]:
    """All metrics from the sums of those of masks over `number` frames or objects."""
    return {
        name: sum(sums[part] for part in metric.mean_of or [name]) / (len(metric.mean_of or [name]) * number)
        for name, metric in METRICS.items()
    }


def boundary(mask: Mask) -> Mask:
    """Return the pixels, bool [height,width], that differ from their right, lower or lower right neighbour.

    In the last row only the right one is compared, in the last column only the lower one.
    """
    edge = np.zeros(mask.shape, dtype=bool)
    inner = mask[:-1, :-1]
    edge[:-1, :-1] = (inner ^ mask[:-1, 1:]) | (inner ^ mask[1:, :-1]) | (inner ^ mask[1:, 1:])
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edge


class VideoScore:
    """The metrics of the objects of one video, fed frame by frame; keeps a few numbers per object.

    As in DAVIS, the first and the last added frame are left out, unless `score_first_and_last`. As in its
    evaluators, an object's frames start with the first scored frame on which prediction or ground truth shows
    it. An object that the ground truth shows on no scored frame has no score.
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
        """Score one frame, in time order; masks are bool [height,width] by object id.

        An object that is missing on one side is empty there. Objects in `left_out` are not scored on this
        frame, for instance because they are not prompted yet. Raises DataError for masks of different sizes.
        """
        assert self._last_frame is None or frame_index > self._last_frame, (self._last_frame, frame_index)
        is_first = self._last_frame is None
        self._last_frame = frame_index
        self._sums, self._newest = _joined(self._sums, self._newest), {}
        if is_first and not self.score_first_and_last:
            return
        for object_id in {*predictions, *ground_truth, *self._sums}.difference(left_out):
            pred, gt = predictions.get(object_id), ground_truth.get(object_id)
            shapes = {mask.shape for mask in (pred, gt, void) if mask is not None}
            if len(shapes) > 1:
                raise DataError(
                    f"video {self.video_id!r}, frame {frame_index}, object {object_id}: prediction, ground "
                    f"truth and void must have one size [height,width], got {sorted(shapes)}"
                )
            score = _score(pred, gt, void)
            if score is not None:
                swaps = Swaps() if pred is None else count_swap(object_id, pred, ground_truth, void)
                presence = Presence.of_frame(pred is not None and bool(pred.any()), score.in_ground_truth)
                self._newest[object_id] = score._replace(swaps=swaps, presence=presence)
            elif object_id in self._sums:
                nothing = Presence.of_frame(False, False)
                self._newest[object_id] = _Sum(dict.fromkeys(_OF_MASKS, 1.0), 1, False, presence=nothing)

    def result(self) -> list[ObjectScore]:
        """Return one score per object of the ground truth, by object id; may be called at any time."""
        sums = _joined(self._sums, self._newest) if self.score_first_and_last else self._sums
        return [
            ObjectScore(
                self.video_id,
                object_id,
                _means(total.values, total.num_frames),
                total.num_frames,
                swaps=total.swaps,
                presence=total.presence,
            )
            for object_id, total in sorted(sums.items())
            if total.in_ground_truth
        ]


class _Sum(NamedTuple):
    """Sums of one object over frames."""

    values: dict[str, float]  # of the metrics of masks
    num_frames: int
    in_ground_truth: bool  # on one of these frames the ground truth shows the object
    swaps: Swaps = Swaps()
    presence: Presence = Presence()


def _joined(sums: Mapping[int, _Sum], newest: Mapping[int, _Sum]) -> dict[int, _Sum]:
    joined = dict(sums)
    for object_id, new in newest.items():
        old = sums.get(object_id, _Sum(dict.fromkeys(_OF_MASKS, 0.0), 0, False))
        values = {name: old.values[name] + new.values[name] for name in _OF_MASKS}
        seen = old.in_ground_truth or new.in_ground_truth
        swaps, presence = old.swaps.plus(new.swaps), old.presence.followed_by(new.presence)
        joined[object_id] = _Sum(values, old.num_frames + new.num_frames, seen, swaps, presence)
    return joined


def _score(pred: Mask | None, gt: Mask | None, void: Mask | None) -> _Sum | None:
    """The metrics on one frame; None where neither side shows the object."""
    in_pred, in_gt = pred is not None and bool(pred.any()), gt is not None and bool(gt.any())
    if not in_pred and not in_gt:
        return None
    pred, gt = both_masks(pred, gt)
    return _Sum({name: compute(pred, gt, void) for name, compute in _OF_MASKS.items()}, 1, in_gt)


def both_masks(pred: Mask | None, gt: Mask | None) -> tuple[Mask, Mask]:
    """Return both masks; None becomes an empty mask, and at most one may be None."""
    some = gt if pred is None else pred
    assert some is not None
    empty = np.zeros_like(some)
    return empty if pred is None else pred, empty if gt is None else gt


def _without_void(pred: Mask, gt: Mask, void: Mask | None) -> tuple[Mask, Mask]:
    pred, gt = pred.astype(bool, copy=False), gt.astype(bool, copy=False)
    if void is None:
        return pred, gt
    known = ~void.astype(bool, copy=False)
    return pred & known, gt & known


def _crop(mask: Mask) -> tuple[slice, slice]:
    """The mask's bounding box and a pixel around it, which contains all boundary pixels.

    Dilated boundaries are read at boundary pixels only, so the results are those of the whole image.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def _dilate(edge: Mask, radius: int) -> Mask:
    return cv2.dilate(edge.view(np.uint8), _disk(radius)).view(bool)


@lru_cache(maxsize=8)
def _disk(radius: int) -> np.ndarray:
    """uint8 [2 radius + 1, 2 radius + 1]: 1 where the distance to the centre is at most the radius."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)
