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


@pytest.mark.parametrize(
    ("field", "wrong", "says"),
    [
        (
            "images",
            lambda x: x.double(),
            r"images is torch.float64 \[2, 3, 32, 32\]; allowed is torch.uint8 ",
        ),
        ("images", lambda x: x[:, :2], r"images is torch.uint8 \[2, 2, 32, 32\]; .* \[T, 3, H, W\]"),
        ("images", lambda x: x.numpy(), "images is ndarray; allowed"),
        ("masks", lambda x: x.float(), r"masks is torch.float32 .*; allowed is torch.bool \[2, N"),
        (
            "masks",
            lambda x: x[:1],
            r"masks is torch.bool \[1, 3, .*; allowed is torch.bool \[2, N, 32",
        ),
        ("masks", lambda x: x[..., :16], r"masks is torch.bool \[2, 3, 32, 16\]"),
        ("valid_masks", lambda x: x[:, :2], r"valid_masks is torch.bool \[2, 2\]; allowed .* \[2, 3\]"),
        ("frame_indices", lambda x: x[:1], r"frame_indices is \[\d\]; allowed is a list of T = 2"),
        ("object_ids", lambda x: None, "object_ids is None; allowed is a list of N = 3"),
        ("num_objects", lambda x: 4, "num_objects is 4; allowed is N = 3"),
        (
            "prompts",
            lambda x: [{**x[0], "type": "bbox"}],
            r"prompts\[0\]: type is 'bbox'; .* box, mask",
        ),
        ("prompts", lambda x: [{**x[0], "object_index": 3}], r"object_index is 3; allowed are 0 to 2"),
        ("prompts", lambda x: [x[0], {**x[1], "frame_index": -1}], r"prompts\[1\]: frame_index is -1"),
        (
            "prompts",
            lambda x: [{**x[0], "point_labels": x[0]["point_labels"][:1]}],
            r"prompts\[0\]: point_labels is torch.int32 \[1\]; allowed is torch.int32 \[2\]",
        ),
        ("prompts", lambda x: [{"type": "mask"}], r"mask is NoneType; allowed is torch.bool \[32, 32\]"),
    ],
)
def test_a_clip_that_is_not_as_clips_are_is_refused(clips, field, wrong, says):
    with pytest.raises(DataError, match=f"video three: .*{says}"):
        collate_fn([clips[0], {**clips[1], field: wrong(clips[1][field])}])


def test_features_are_checked_in_place_of_images(clips):
    features = [torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16), torch.zeros(2, 8, 4, 4, dtype=torch.bfloat16)]
    clip = {name: each for name, each in clips[0].items() if name != "images"} | {"features": features}
    assert [level.shape[0] for level in collate_fn([clip, clip])["features"]] == [2, 2]
    features[1] = features[1].float()
    with pytest.raises(DataError, match=r"video one: features\[1\] is torch.float32 .*bfloat16 \[2, \*"):
        collate_fn([clip])
