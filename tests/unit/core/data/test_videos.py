"""Whole videos for evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.videos import first_prompts, video_frames
from sam2vt.errors import DataError

LEFT, RIGHT = (2, 4, 18, 40), (46, 2, 62, 46)


@pytest.fixture
def record(make_video):
    """Object 7 from frame 2 on, object 2 from frame 4 on, frame 3 not annotated."""
    return make_video("v", [{}, {}, {7: RIGHT}, None, {2: LEFT, 7: RIGHT}, {2: LEFT}])


def test_each_object_is_prompted_where_it_appears(record):
    generator = PromptGenerator(["mask"])
    prompts, object_ids = first_prompts(record, 96, generator, np.random.default_rng(0))
    assert object_ids == [2, 7]
    assert [(p["object_index"], p["frame_index"]) for p in prompts] == [(0, 4), (1, 2)]
    assert prompts[1]["mask"].shape == (96, 96)
    assert prompts[1]["mask"][4:92, 69:93].all()
    assert not prompts[1]["mask"][:, :69].any()


def test_frames_count_from_the_usable_range(record):
    part = replace(record, frame_range=(3, 6), object_ids=(2, 7))
    prompts, object_ids = first_prompts(part, 64, PromptGenerator(["box"]), np.random.default_rng(0))
    assert object_ids == [2, 7]
    assert [p["frame_index"] for p in prompts] == [1, 1]
    frames = list(video_frames(part, 64))
    assert len(frames) == 3
    assert [frame[0, 0, 0].item() for frame in frames] == [3, 4, 5]
    assert frames[0].shape == (3, 64, 64)
    assert frames[0].dtype == torch.uint8
    assert frames[0].is_contiguous()


def test_the_generators_state_decides_the_prompts(record):
    generator = PromptGenerator(None, (1, 3))
    one, two = (first_prompts(record, 64, generator, np.random.default_rng(5))[0] for _ in range(2))
    for a, b in zip(one, two):
        assert a.keys() == b.keys()
        assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a.keys() - {"type"})


def test_reading_stops_once_every_object_is_found(record):
    (broken,) = [a for i, a in record.annotations.items() if i == 5]
    annotations = {**record.annotations, 5: replace(broken, path="/nowhere/5.png")}
    known = replace(record, annotations=annotations, object_ids=(2, 7))
    assert first_prompts(known, 64, PromptGenerator(["box"]), np.random.default_rng(0))[1] == [2, 7]
    with pytest.raises(DataError, match=r"/nowhere/5\.png"):
        first_prompts(replace(known, object_ids=None), 64, PromptGenerator(), np.random.default_rng(0))


def test_nothing_visible_is_an_error(record):
    with pytest.raises(DataError, match="v .*no object is visible on any of its 2 annotated frames"):
        first_prompts(replace(record, frame_range=(0, 2)), 64, PromptGenerator(), np.random.default_rng(0))


def test_ground_truth_is_at_the_videos_own_size(record):
    masks = load_masks(record, 4)
    assert list(masks) == [2, 7]
    assert masks[2].shape == (48, 64)
    assert masks[2].sum() == 16 * 36
    assert load_masks(record, 0) == {}
    with pytest.raises(DataError, match="frame 3 is not annotated"):
        load_masks(record, 3)
