"""Whole-video evaluation with trackers whose answers are known."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.jf import VideoScore
from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask

SIZE = 32  # of the fake tracker's input, in pixels


class Prediction(NamedTuple):
    frame_index: int
    object_indices: list[int]
    masks: torch.Tensor


class FakeTracker:
    """Returns what `answer(frame index, object index)` says, as logits, once an object was prompted."""

    def __init__(self, answer):
        self.answer = answer
        self.prompts = None
        self.frames_seen = []

    def propagate(self, frames, prompts, num_frames):
        self.prompts = prompts
        first = {p.get("object_index", i): p.get("frame_index", 0) for i, p in enumerate(prompts)}
        for frame_index, frame in enumerate(frames):
            assert frame.dtype == torch.uint8
            assert tuple(frame.shape) == (3, SIZE, SIZE)
            self.frames_seen.append(frame_index)
            here = [o for o in sorted(first) if first[o] <= frame_index]
            masks = [torch.as_tensor(self.answer(frame_index, o)).float() for o in here]
            yield Prediction(frame_index, here, torch.stack(masks) if masks else torch.zeros(0, SIZE, SIZE))
        assert frame_index + 1 == num_frames


def logits(mask):
    return np.where(mask, 8.0, -8.0)


def moving_squares(num_frames=8, height=40, width=60, enters=(0, 3)):
    """Label maps: each object a square that moves right from the frame on which it enters."""
    labels = np.zeros((num_frames, height, width), dtype=np.uint8)
    for i, start in enumerate(enters):
        for t in range(start, num_frames):
            left = 2 + 3 * (t - start)
            labels[t, 4 + 18 * i : 16 + 18 * i, left : left + 12] = i + 1
    return labels


MASKS = PromptGenerator(["mask"])
POINTS = PromptGenerator(["point"])


def test_a_perfect_tracker_scores_one(make_record):
    labels = moving_squares()
    model = FakeTracker(lambda t, o: logits(labels[t] == o + 1))
    result = evaluate_video(model, make_record(list(labels)), SIZE, MASKS, seed=0)
    assert result.video_id == "video"
    assert [(row.object_id, row.values["J"], row.values["F"]) for row in result.scores] == [
        (1, 1, 1),
        (2, 1, 1),
    ]
    # Frames 1 to 6 of 0 to 7; the second object enters on frame 3, where its mask is given.
    assert [row.num_frames for row in result.scores] == [6, 3]
    assert result.mean == ({"J": 1, "F": 1, "J&F": 1}, 2)
    assert result.num_frames == 8
    assert model.frames_seen == list(range(8))


def test_equals_the_score_of_the_shifted_masks(make_record):
    labels = moving_squares()
    model = FakeTracker(lambda t, o: logits(np.roll(labels[t] == o + 1, 2, axis=1)))
    result = evaluate_video(model, make_record(list(labels)), SIZE, MASKS, seed=0)
    want = VideoScore(video_id="video")
    for t in range(8):
        pred = {i: np.roll(labels[t] == i, 2, axis=1) for i in (1, 2)}
        want.add(t, pred, {i: labels[t] == i for i in (1, 2)}, left_out={2} if t <= 3 else ())
    assert result.scores == want.result()
    assert result.scores[0].values["J"] == pytest.approx(10 / 14)


def test_first_and_last_frame_are_kept_if_asked(make_record):
    """Even then the frame on which an object is prompted does not count for it."""
    labels = moving_squares()
    record = make_record(list(labels))
    model = FakeTracker(lambda t, o: logits(labels[t] == o + 1))
    for prompts in (MASKS, POINTS):
        result = evaluate_video(model, record, SIZE, prompts, seed=0, score_first_and_last=True)
        assert [row.num_frames for row in result.scores] == [7, 4]


def test_frames_without_annotation_are_tracked_and_not_scored(make_record):
    labels = list(moving_squares(num_frames=9, enters=(0,)))
    for t in (1, 2, 4, 8):
        labels[t] = None
    model = FakeTracker(lambda t, o: logits(labels[t] == 1) if labels[t] is not None else np.ones((40, 60)))
    result = evaluate_video(model, make_record(labels), SIZE, MASKS, seed=0)
    # Annotated are 0, 3, 5, 6, 7: the first and the last of them are left out.
    assert [(row.values["J"], row.num_frames) for row in result.scores] == [(1, 3)]
    assert model.frames_seen == list(range(9))


def test_only_the_frames_of_the_range_are_used(make_record):
    labels = moving_squares(num_frames=10, enters=(0,))
    record = make_record(list(labels), frame_range=(4, 9))
    model = FakeTracker(lambda t, o: logits(labels[t + 4] == 1))
    seen = []
    result = evaluate_video(model, record, SIZE, MASKS, seed=0, on_frame=lambda index, *_: seen.append(index))
    assert seen == [4, 5, 6, 7, 8]
    assert [(row.values["J"], row.num_frames) for row in result.scores] == [(1, 3)]


def test_overlaps_are_settled_by_the_largest_logit(make_record):
    labels = moving_squares(enters=(0, 0))
    model = FakeTracker(lambda t, o: np.full((40, 60), 1.0 + o))
    result = evaluate_video(model, make_record(list(labels)), SIZE, MASKS, seed=0)
    first, second = result.scores
    assert first.values["J"] == 0  # every pixel is the second object's
    assert second.values["J"] == pytest.approx(144 / 2400)


def test_small_logits_are_brought_to_the_videos_size(make_record):
    labels = moving_squares(num_frames=5, height=64, width=64, enters=(0,))
    small = torch.nn.functional.interpolate(
        torch.from_numpy(logits(labels == 1))[:, None], (16, 16), mode="area"
    )[:, 0]
    result = evaluate_video(
        FakeTracker(lambda t, o: small[t]), make_record(list(labels)), SIZE, MASKS, seed=0
    )
    assert result.scores[0].values["J"] > 0.8


def test_void_counts_on_neither_side(make_record):
    labels = moving_squares(num_frames=5, enters=(0,))
    labels[:, 30:40] = 255
    wrong_in_void = labels == 1
    wrong_in_void[:, 32:38] = True
    model = FakeTracker(lambda t, o: logits(wrong_in_void[t]))
    result = evaluate_video(model, make_record(list(labels)), SIZE, MASKS, seed=0)
    assert [(row.object_id, row.values["J"], row.values["F"]) for row in result.scores] == [(1, 1, 1)]


def test_an_object_that_is_never_scored_has_a_row(make_record):
    """It enters on the last frame."""
    labels = moving_squares(num_frames=5, enters=(0, 4))
    model = FakeTracker(lambda t, o: logits(labels[t] == o + 1))
    result = evaluate_video(model, make_record(list(labels)), SIZE, MASKS, seed=0)
    first, second = result.scores
    assert (second.object_id, second.num_frames) == (2, 0)
    assert math.isnan(second.values["J"])
    assert result.mean.num_objects == 1
    assert result.mean.values["J"] == first.values["J"] == 1


def test_on_frame_sees_each_frame_once(make_record):
    labels = list(moving_squares(num_frames=6, enters=(0,)))
    labels[2] = None
    seen = {}

    def on_frame(index, image, predictions, truth):
        assert image.shape == (SIZE, SIZE, 3)
        assert image.dtype == np.uint8
        assert index not in seen
        seen[index] = (image, predictions, truth)

    model = FakeTracker(lambda t, o: np.ones((SIZE, SIZE)))
    with_hook = evaluate_video(model, make_record(labels), SIZE, MASKS, seed=0, on_frame=on_frame)
    assert sorted(seen) == list(range(6))
    assert seen[2][2] == {}
    assert np.array_equal(seen[3][2][1], labels[3] == 1)
    assert all(predictions[1].shape == (40, 60) for _, predictions, _ in seen.values())
    # The object is brighter than what is around it: the image is that of the frame.
    bright = np.argwhere(seen[5][0].mean(-1) > 110).mean(0)
    assert bright == pytest.approx([9.5 * SIZE / 40, 22.5 * SIZE / 60], abs=1)
    assert len(with_hook.scores) == 1


def test_prompts_follow_from_seed_and_video(make_record):
    labels = moving_squares()
    record = make_record(list(labels))

    def points(seed, record=record):
        model = FakeTracker(lambda t, o: np.ones((SIZE, SIZE)))
        evaluate_video(model, record, SIZE, POINTS, seed=seed)
        return [p["point_coords"].tolist() for p in model.prompts]

    assert points(0) == points(0)
    assert points(0) != points(1)
    assert points(0) != points(0, make_record(list(labels), video_id="other"))


def test_holding_the_first_mask(make_record):
    labels = moving_squares(num_frames=6)
    record = make_record(list(labels))
    result = hold_first_mask(record, SIZE, MASKS, seed=0)
    first, second = result.scores
    overlaps = [12 - 3 * t for t in range(1, 5)]
    assert first.values["J"] == pytest.approx(np.mean([o / (24 - o) for o in overlaps]))
    assert (first.num_frames, second.num_frames) == (4, 1)
    assert second.values["J"] == pytest.approx(9 / 15)
    # The kind of prompt makes no difference to the baseline, nor to which frames count.
    assert hold_first_mask(record, SIZE, POINTS, seed=3).scores == result.scores
    kept = hold_first_mask(record, SIZE, MASKS, seed=0, score_first_and_last=True)
    assert [row.num_frames for row in kept.scores] == [5, 2]


@pytest.mark.parametrize("prompts", [MASKS, POINTS, PromptGenerator(["box"])])
def test_holding_equals_a_tracker_that_stands_still(make_record, prompts):
    labels = moving_squares(num_frames=7)
    record = make_record(list(labels))
    first_of = {0: labels[0] == 1, 1: labels[3] == 2}
    model = FakeTracker(lambda t, o: logits(first_of[o]))
    assert (
        evaluate_video(model, record, SIZE, prompts, seed=0).scores
        == hold_first_mask(record, SIZE, prompts, 0).scores
    )


MEMORY_PROGRAM = """
import resource, sys
import numpy as np, torch
from collections import namedtuple
from PIL import Image
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.video import evaluate_video
from sam2vt.core.types import LabelImage, VideoRecord

folder, num_frames = sys.argv[1], int(sys.argv[2])
Prediction = namedtuple("Prediction", "frame_index object_indices masks")

class Tracker:
    def propagate(self, frames, prompts, num_frames):
        for i, frame in enumerate(frames):
            yield Prediction(i, [0], frame[:1].float() - 100)

record = VideoRecord(
    video_id="long", num_frames=num_frames, height=240, width=320,
    annotations={i: LabelImage(f"{folder}/mask.png") for i in range(num_frames)},
    frame_paths=(f"{folder}/frame.png",) * num_frames,
)
count = []
result = evaluate_video(
    Tracker(), record, 320, PromptGenerator(["mask"]), seed=0, on_frame=lambda *a: count.append(a[0])
)
assert len(count) == num_frames and result.scores[0].num_frames == num_frames - 2
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_video(tmp_path):
    """450 more frames would be 130 MB of pixels at the model's size, 35 MB as masks."""
    from PIL import Image

    mask = np.zeros((240, 320), dtype=np.uint8)
    mask[100:200, 100:200] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(np.full((240, 320, 3), 90, dtype=np.uint8) + mask[..., None] * 90).save(
        tmp_path / "frame.png"
    )
    peak_mib = [
        float(
            subprocess.run(
                [sys.executable, "-c", MEMORY_PROGRAM, str(tmp_path), str(num_frames)],
                check=True,
                capture_output=True,
                text=True,
                timeout=200,
            ).stdout
        )
        for num_frames in (50, 500)
    ]
    assert peak_mib[1] - peak_mib[0] < 30


def test_scores_carry_the_names_of_objects(make_record):
    labels = moving_squares()
    record = replace(make_record(list(labels)), object_names={2: "cystic_duct"})
    assert [row.name for row in hold_first_mask(record, SIZE, MASKS, seed=0).scores] == ["", "cystic_duct"]
    of_class_0 = replace(record, object_names={}, classes={0: "car"})  # as 1001 is of class 1
    assert {row.name for row in hold_first_mask(of_class_0, SIZE, MASKS, seed=0).scores} == {"car"}
