"""A clip survives its way as a row of Ray Data, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ray.data.block import BlockAccessor

from sam2vt.core.data.clips.drawing import draw_blank
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.frames.feature_cache import as_tensors
from sam2vt.core.types import Clip, Prompt
from sam2vt.distributed.stream.wire import POSITION, pack_clips, pack_error, unpack_clips
from sam2vt.errors import DataError


def random_clip(num_objects: int, seed: int = 0, size: int = 32, frames: int = 3) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand((frames, num_objects, size, size), generator=generator) > 0.5
    prompts = [_prompt(n, masks, generator) for n in range(num_objects)]
    return Clip(
        images=torch.randint(0, 256, (frames, 3, size, size), dtype=torch.uint8, generator=generator),
        masks=masks,
        valid_masks=torch.rand((frames, num_objects), generator=generator) > 0.3,
        prompts=prompts,
        video_id="vidéo/1",
        frame_indices=[4, 7, 9],
        object_ids=[11 * n + 1 for n in range(num_objects)],
        original_size=(480, 854),
        num_objects=num_objects,
    )


def _prompt(n: int, masks: torch.Tensor, generator: torch.Generator) -> Prompt:
    if n % 2:
        return Prompt(type="mask", mask=masks[0, n], object_index=n, frame_index=0)
    coords = torch.rand((n + 1, 2), generator=generator) * 31
    labels = torch.ones(n + 1, dtype=torch.int32)
    return Prompt(type="point", point_coords=coords, point_labels=labels, object_index=n, frame_index=1)


def assert_same(left: object, right: object) -> None:
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict) and isinstance(right, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right):
            assert_same(a, b)
    else:
        assert left == right


@pytest.mark.parametrize("num_objects", [0, 1, 3])
def test_round_trip(num_objects: int) -> None:
    clips = [random_clip(num_objects, seed) for seed in range(2)]
    rows = pack_clips(clips, [7, 8])
    assert rows[POSITION].tolist() == [7, 8]
    for column in rows.values():
        column.setflags(write=False)  # as readers get them
    assert_same(unpack_clips(rows), clips)


def test_every_float32_survives() -> None:
    clip = random_clip(1)
    bits = np.random.default_rng(0).integers(0, 2**31, size=(64, 2)).astype(np.uint32)
    coords = torch.from_numpy(bits.view(np.float32).copy())
    coords[~torch.isfinite(coords)] = 0.1
    clip["prompts"][0]["point_coords"] = coords
    assert torch.equal(unpack_clips(pack_clips([clip], [0]))[0]["prompts"][0]["point_coords"], coords)


def test_a_row_is_hardly_larger_than_its_pixels() -> None:
    clip = random_clip(4, size=128, frames=3)
    rows = pack_clips([clip], [0])
    size = sum(len(v) if isinstance(v, bytes) else v.nbytes for column in rows.values() for v in column)
    assert size <= 1.1 * 3 * 128 * 128 * 4


def test_readers_own_what_they_get() -> None:
    rows = pack_clips([random_clip(2)], [0])
    clip = unpack_clips(rows)[0]
    clip["images"].zero_()
    assert rows["images"].any()


@pytest.mark.parametrize("kind", ["mask", "point"])
def test_a_clip_in_the_object_store_is_hardly_larger_than_its_pixels(kind: str) -> None:
    """With three objects, each prompted, and counted as Ray counts the block."""
    frames, size = 4, 128
    clip = random_clip(3, size=size, frames=frames)
    if kind == "mask":
        clip["prompts"] = [
            Prompt(type="mask", mask=clip["masks"][t, n], object_index=n, frame_index=t)
            for t in (0, 1)
            for n in range(3)
        ]
    block = BlockAccessor.batch_to_block(pack_clips([clip], [0]))
    assert BlockAccessor.for_block(block).size_bytes() <= 1.1 * frames * size * size * 4


def test_a_quarantined_clip_says_so() -> None:
    clip = as_tensors(draw_blank(ClipSpec((64, 64), 3, PromptGenerator(["mask"])), "bad"))
    clip["quarantined"] = {"epoch": 1, "index": 2, "video_id": "bad", "source": "ü", "error": "gone"}
    rows = pack_clips([random_clip(1, size=64), clip], [0, 1])
    assert_same(unpack_clips(rows)[1], clip)


def of_features(clip: Clip, seed: int = 0) -> Clip:
    """The same clip with two levels of features instead of its images."""
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn((3, *level), generator=generator).bfloat16() for level in ((4, 8, 8), (6, 4, 4))]
    rest = {name: value for name, value in clip.items() if name != "images"}
    return Clip(features=features, **rest)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("number", [1, 2])
def test_features_in_place_of_images(number: int) -> None:
    clips = [of_features(random_clip(2, seed), seed) for seed in range(number)]
    block = BlockAccessor.batch_to_arrow_block(pack_clips(clips, range(number)))
    rows = BlockAccessor.for_block(block).to_batch_format("numpy")
    for clip, found in zip(clips, unpack_clips(rows)):
        assert_same(clip, found)


@pytest.mark.parametrize("like", [random_clip(1), of_features(random_clip(1))])
def test_rows_of_an_error_have_the_columns_of_clips(like: Clip) -> None:
    rows = pack_error(DataError("video v is broken"), [3, 4], like)
    sound = pack_clips([like, like], [3, 4])
    assert {name: (each.shape, each.dtype) for name, each in rows.items()} == {
        name: (each.shape, each.dtype) for name, each in sound.items()
    }
    with pytest.raises(DataError, match="video v is broken"):
        unpack_clips(rows)
