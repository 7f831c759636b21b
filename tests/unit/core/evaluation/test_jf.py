"""J and F against the vos-benchmark package, and against plain loops where it has no say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sam2vt.core.evaluation.jf import (
    UNSCORED,
    MeanScore,
    ObjectScore,
    VideoScore,
    both_masks,
    boundary,
    boundary_f,
    jaccard,
    mean_score,
)
from sam2vt.errors import DataError


def blob(rng, height, width):
    """A random ellipse [height,width]; may lie across an edge of the image."""
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    ry, rx = rng.uniform(1, height / 2), rng.uniform(1, width / 2)
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def label_frame(rng, height, width, num_objects):
    """Object ids [height,width]: blobs that do not overlap, some absent, some of one pixel."""
    labels = np.zeros((height, width), dtype=np.uint8)
    for object_id in range(1, num_objects + 1):
        kind = rng.integers(6)
        if kind == 0:
            continue
        if kind == 1:
            labels[rng.integers(height), rng.integers(width)] = object_id
        else:
            labels[blob(rng, height, width)] = object_id
    return labels


def distort(rng, labels):
    """A prediction: the frame shifted, with some objects lost or swapped."""
    out = np.roll(labels, rng.integers(-4, 5, size=2), axis=(0, 1))
    for object_id in np.unique(out)[1:]:
        if rng.random() < 0.15:
            out[out == object_id] = 0
    return out


def sequence(seed):
    """Labels of ground truth and prediction, [T,height,width] each, of odd sizes."""
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(5, 90)), int(rng.integers(5, 140))
    if seed % 17 == 0:
        height, width = 270, 480
    num_objects = int(rng.integers(1, 5))
    gt = [label_frame(rng, height, width, num_objects) for _ in range(int(rng.integers(3, 9)))]
    independent = seed % 3 == 0
    pred = [label_frame(rng, height, width, num_objects) if independent else distort(rng, g) for g in gt]
    return np.stack(pred), np.stack(gt)


def objects(labels, ids=None):
    ids = np.unique(labels)[1:] if ids is None else ids
    return {int(i): labels == i for i in ids}


def square(left):
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:6, left : left + 4] = True
    return mask


def test_j_and_f_by_hand():
    """Of 4 x 4 squares in 10 x 20 pixels, whose tolerance is a pixel: 0.008 of 22.4, rounded up."""
    assert jaccard(square(4), square(6)) == 8 / 24
    assert jaccard(square(4), square(8)) == 0
    assert boundary_f(square(4), square(5)) == 1
    # Boundaries are 4 + 4 + 4 + 5 - 1 = 16 pixels, columns 3 to 7 of rows 1 to 5 without the inner ones.
    assert np.count_nonzero(boundary(square(4))) == 16
    # Two columns on it has columns 5 to 9. A pixel away at most are columns 4 to 7 of rows 1 and 5, and of
    # column 7 the pixels next to these rows: 10.
    assert boundary_f(square(4), square(6)) == 10 / 16
    # A dot's boundary is columns 2 and 3 of rows 2 and 3: all are matched by the square's column 3, of which
    # rows 1 to 4 are matched.
    dot = np.zeros((10, 20), dtype=bool)
    dot[3, 3] = True
    assert boundary_f(dot, square(4)) == 2 * 1 * (4 / 16) / (1 + 4 / 16)
    assert boundary_f(square(2), square(14)) == 0
    void = np.zeros((10, 20), dtype=bool)
    void[:, 8:10] = True
    assert jaccard(square(4), square(6), void) == 8 / 16
    # Columns 6 and 7 remain of the second: 11 of its 12 boundary pixels are matched, 11 of the first's 16.
    assert boundary_f(square(4), square(6), void) == pytest.approx(2 * 11 / (12 + 16))


def test_the_tolerance_is_rounded_up():
    """A diagonal of 125 pixels has a tolerance of 1, one a little longer of 2."""
    for height, expected in ((75, 0), (76, 0.5)):
        pred, gt = (np.zeros((height, 100), dtype=bool) for _ in range(2))
        pred[20, 20] = gt[20, 24] = True  # boundaries of 2 x 2 pixels, of which the closest are 3 apart
        assert boundary_f(pred, gt) == 0
        pred[20, 20], pred[20, 21] = False, True  # 2 apart
        assert boundary_f(pred, gt) == expected


def test_void_and_masks_of_integers():
    pred, gt, void = (np.array([row], dtype=np.uint8) for row in ([1, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1]))
    assert jaccard(pred, gt, void) == 1 / 2
    assert jaccard(pred, gt) == 1 / 4


def scores(*values, frames=2):
    return [
        ObjectScore("v", n, {"J": j, "F": f, "J&F": (j + f) / 2}, frames) for n, (j, f) in enumerate(values)
    ]


def test_the_mean_is_over_scored_objects():
    lost = ObjectScore("v", 9, UNSCORED, 0)
    mean = mean_score([*scores((0.5, 0.25), (1.0, 0.5)), *scores((0.0, 0.75), frames=7), lost])
    assert mean == MeanScore({"J": 0.5, "F": 0.5, "J&F": 0.5}, 3)
    for nothing in ([], [lost]):
        values, number = mean_score(nothing)
        assert number == 0
        assert set(values) == {"J", "F", "J&F"}
        assert all(math.isnan(value) for value in values.values())


def test_an_absent_side_is_empty():
    mask = square(3)
    for found in (both_masks(mask, None), both_masks(None, mask)[::-1]):
        assert found[0] is mask
        assert found[1].shape == mask.shape
        assert not found[1].any()
    assert both_masks(mask, square(4))[0] is mask


def test_only_objects_of_the_ground_truth_are_scored_in_order_of_their_ids():
    score = VideoScore(score_first_and_last=True)
    score.add(0, {3: square(0), 5: square(8)}, {3: square(0)})
    score.add(1, {1: square(0)}, {3: square(0), 1: square(0)})
    one, three = score.result()
    assert (one.object_id, one.num_frames, one.values["J"]) == (1, 1, 1)
    assert (three.object_id, three.num_frames, three.values["J"]) == (3, 2, 0.5)


def test_frames_are_added_in_order():
    score = VideoScore()
    score.add(4, {}, {})
    for frame in (4, 3):
        with pytest.raises(AssertionError):
            score.add(frame, {}, {})
    score.add(5, {}, {})


def test_empty_masks():
    empty, full = np.zeros((6, 6), dtype=bool), np.zeros((6, 6), dtype=bool)
    full[2:4, 2:4] = True
    assert (jaccard(empty, empty), boundary_f(empty, empty)) == (1, 1)
    assert (jaccard(full, empty), boundary_f(full, empty)) == (0, 0)
    assert (jaccard(empty, full), boundary_f(empty, full)) == (0, 0)
    assert (jaccard(full, full), boundary_f(full, full)) == (1, 1)


def test_left_out_frames_and_late_objects():
    score = VideoScore(score_first_and_last=True, video_id="v")
    score.add(0, {1: square(0)}, {1: square(0)})
    score.add(1, {1: square(0), 2: square(8)}, {1: square(0), 2: square(8)}, left_out={2})
    score.add(5, {1: square(0), 2: square(10)}, {1: square(4), 2: square(8)})
    one, two = score.result()
    assert one[:2] == ("v", 1)
    assert one.values["J"] == pytest.approx(2 / 3)
    assert one.num_frames == 3
    assert two.values["J"] == pytest.approx(1 / 3)
    assert two.num_frames == 1


def test_an_object_stays_scored_after_it_leaves():
    score = VideoScore(score_first_and_last=True)
    score.add(0, {1: square(0)}, {1: square(0)})
    score.add(1, {}, {})
    score.add(2, {1: square(0)}, {})
    (found,) = score.result()
    assert (found.values, found.num_frames) == ({"J": 2 / 3, "F": 2 / 3, "J&F": 2 / 3}, 3)
    assert (found.presence.right, found.presence.left, found.presence.returned) == (2, True, False)


def test_result_may_be_asked_for_early_and_often():
    score = VideoScore()
    assert score.result() == []
    for frame in range(4):
        score.add(frame, {1: square(frame)}, {1: square(0)})
        assert score.result() == score.result()
    (row,) = score.result()
    assert row.num_frames == 2
    assert row.values["J"] == pytest.approx((12 / 20 + 8 / 24) / 2)


def test_sizes_that_differ_are_named():
    score = VideoScore(score_first_and_last=True, video_id="clip")
    with pytest.raises(DataError, match=r"'clip', frame 3, object 1.*\(10, 20\).*\(10, 21\)"):
        score.add(3, {1: square(0)}, {1: np.zeros((10, 21), dtype=bool)})


def plain_boundary(mask):
    height, width = mask.shape
    edge = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            right = mask[y, x + 1] if x + 1 < width else False
            below = mask[y + 1, x] if y + 1 < height else False
            corner = mask[y + 1, x + 1] if y + 1 < height and x + 1 < width else False
            if y == height - 1 and x == width - 1:
                continue
            if y == height - 1:
                edge[y, x] = mask[y, x] != right
            elif x == width - 1:
                edge[y, x] = mask[y, x] != below
            else:
                edge[y, x] = len({bool(mask[y, x]), bool(right), bool(below), bool(corner)}) > 1
    return edge


def plain_jf(pred, gt, void):
    """J and F by looking at every pair of boundary pixels."""
    pred, gt = pred & ~void, gt & ~void
    union = (pred | gt).sum()
    j = (pred & gt).sum() / union if union else 1.0
    radius = math.ceil(0.008 * math.sqrt(pred.shape[0] ** 2 + pred.shape[1] ** 2))
    a, b = np.argwhere(plain_boundary(pred)), np.argwhere(plain_boundary(gt))
    if not len(a) or not len(b):
        return j, float(len(a) == len(b))
    close = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
    precision, recall = close.any(1).mean(), close.any(0).mean()
    return j, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_boundary_against_plain_loops():
    rng = np.random.default_rng(0)
    for shape in [(1, 1), (1, 7), (7, 1), (2, 2), (9, 13)]:
        for _ in range(20):
            mask = rng.random(shape) < 0.5
            assert np.array_equal(boundary(mask), plain_boundary(mask))


def test_masks_at_the_edges_of_a_large_image():
    """The work on the bounding box must not differ from work on the whole image."""
    void = np.zeros((130, 200), dtype=bool)
    for rows, columns in [
        ((0, 9), (0, 9)),
        ((121, 130), (191, 200)),
        ((60, 70), (190, 200)),
        ((0, 130), (0, 200)),
    ]:
        gt = np.zeros((130, 200), dtype=bool)
        gt[slice(*rows), slice(*columns)] = True
        for shift in [(0, 0), (1, 2), (-2, 1), (5, 5)]:
            pred = np.roll(gt, shift, axis=(0, 1))
            assert (jaccard(pred, gt), boundary_f(pred, gt)) == pytest.approx(
                plain_jf(pred, gt, void), abs=1e-12
            )


def test_void_and_overlaps_against_plain_loops():
    """Objects may overlap here; void hides a part of both sides."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        height, width = int(rng.integers(4, 60)), int(rng.integers(4, 60))
        void = rng.random((height, width)) < 0.1 if seed % 2 else blob(rng, height, width)
        pred = {1: blob(rng, height, width), 2: blob(rng, height, width)}
        gt = {1: blob(rng, height, width), 2: np.zeros((height, width), dtype=bool)}
        score = VideoScore(score_first_and_last=True)
        score.add(0, pred, gt, void=void)
        for object_id in (1, 2):
            want = plain_jf(pred[object_id], gt[object_id], void)
            assert jaccard(pred[object_id], gt[object_id], void) == pytest.approx(want[0], abs=1e-12)
            assert boundary_f(pred[object_id], gt[object_id], void) == pytest.approx(want[1], abs=1e-12)
        (row,) = score.result()
        assert (row.object_id, row.num_frames) == (1, 1)
        assert row.values["J"] == pytest.approx(plain_jf(pred[1], gt[1], void)[0])


@pytest.mark.parametrize("explicit_empties", [False, True])
def test_equals_vos_benchmark(explicit_empties):
    """First and last frame left out; an absent object's mask may be missing or empty."""
    from vos_benchmark.evaluator import Evaluator

    num_objects = num_frames = 0
    for seed in range(80):
        pred, gt = sequence(seed)
        oracle, score = Evaluator(), VideoScore(video_id="v")
        for frame in range(len(gt)):
            ids = range(1, 5) if explicit_empties else None
            score.add(frame, objects(pred[frame], ids), objects(gt[frame], ids))
            if 0 < frame < len(gt) - 1:
                oracle.feed_frame(pred[frame], gt[frame])
        j, f = oracle.conclude()
        result = {row.object_id: row for row in score.result()}
        assert set(result) == set(j)
        for object_id, row in result.items():
            assert row.values["J"] == pytest.approx(j[object_id] / 100, abs=1e-9)
            assert row.values["F"] == pytest.approx(f[object_id] / 100, abs=1e-9)
            assert row.values["J&F"] == pytest.approx((row.values["J"] + row.values["F"]) / 2, abs=1e-12)
            assert row.num_frames == len(oracle.object_iou[object_id])
            num_objects += 1
            num_frames += row.num_frames
    assert num_objects > 150
    assert num_frames > 500


def test_equals_vos_benchmark_with_first_and_last():
    from vos_benchmark.evaluator import Evaluator

    for seed in range(80, 100):
        pred, gt = sequence(seed)
        oracle, score = Evaluator(), VideoScore(score_first_and_last=True)
        for frame in range(len(gt)):
            score.add(frame, objects(pred[frame]), objects(gt[frame]))
            oracle.feed_frame(pred[frame], gt[frame])
        j, f = oracle.conclude()
        got = {row.object_id: (row.values["J"], row.values["F"]) for row in score.result()}
        assert got == {
            i: (pytest.approx(j[i] / 100, abs=1e-9), pytest.approx(f[i] / 100, abs=1e-9)) for i in j
        }
