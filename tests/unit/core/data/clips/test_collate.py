"""Clips to a batch."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.types import SampleKey
from sam2vt.errors import DataError

SPEC = ClipSpec((32, 32), 2, PromptGenerator(["box"]))


@pytest.fixture
def clips(make_video):
    one = make_video("one", [{1: (2, 2, 30, 30)}] * 3)
    three = make_video("three", [{i: (8 * i, 2, 8 * i + 7, 30) for i in (1, 4, 6)}] * 3)
    return [make_clip([one, three], SampleKey(0, i), SPEC) for i in range(2)]


def test_objects_are_padded_without_mask_and_not_valid(clips):
    batch = collate_fn(clips)
    assert batch["images"].shape == (2, 2, 3, 32, 32)
    assert batch["masks"].shape == (2, 2, 3, 32, 32)
    assert batch["valid_masks"].shape == (2, 2, 3)
    assert batch["masks"].dtype == batch["valid_masks"].dtype == torch.bool
    assert batch["valid_masks"][0].tolist() == [[True, False, False]] * 2
    assert batch["valid_masks"][1].all()
    assert not batch["masks"][0, :, 1:].any()
    for b, clip in enumerate(clips):
        assert torch.equal(batch["images"][b], clip["images"])
        assert torch.equal(batch["masks"][b, :, : clip["num_objects"]], clip["masks"])


def test_the_rest_is_lists(clips):
    batch = collate_fn(clips)
    assert batch["video_id"] == ["one", "three"]
    assert batch["num_objects"] == [1, 3]
    assert batch["object_ids"] == [[1], [1, 4, 6]]
    assert batch["original_size"] == [(48, 64)] * 2
    assert [len(prompts) for prompts in batch["prompts"]] == [1, 3]
    assert batch["prompts"][1][2] is clips[1]["prompts"][2]
    assert batch["frame_indices"] == [clip["frame_indices"] for clip in clips]
    assert batch.keys() == clips[0].keys()


def test_clips_of_different_shapes_are_an_error(clips, make_video):
    spec = ClipSpec((32, 32), 3, SPEC.prompts)
    longer = make_clip([make_video("v", [{1: (2, 2, 9, 9)}] * 3)], SampleKey(0, 0), spec)
    with pytest.raises(DataError, match=r"one \[2, 3, 32, 32\].* v \[3, 3, 32, 32\]"):
        collate_fn([*clips, longer])
