"""The feature cache on disk: what is found in it, what is not, and what becomes of a damaged file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import draw_blank, make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.formats.packed import open_packed
from sam2vt.core.data.frames.feature_cache import AUTO, FeatureCache, as_tensors, cache_root
from sam2vt.core.data.writing.pack import pack
from sam2vt.core.types import SampleKey, VideoRecord
from sam2vt.errors import DataError

LEVELS = ((3, 4, 4), (5, 2, 2))
BOX = (2, 4, 30, 40)
SPEC = ClipSpec((64, 64), 4, PromptGenerator(["point"]))


@pytest.fixture
def cache(tmp_path) -> FeatureCache:
    return FeatureCache(str(tmp_path / "features"), "weights", LEVELS, (64, 64))


def frames_of(record: VideoRecord, cache: FeatureCache) -> list[list[np.ndarray]]:
    """Random bits, the same for a frame's index."""
    return [
        [
            np.random.default_rng([frame, n]).integers(0, 2**16, level, np.uint16)
            for n, level in enumerate(cache.levels)
        ]
        for frame in record.frames
    ]


def only_file(cache: FeatureCache) -> Path:
    (file,) = Path(cache.folder).iterdir()
    return file


def test_frames_come_back_bit_for_bit_in_any_order(make_video, cache):
    record = make_video("v", [{1: BOX}] * 8, frame_range=(2, 8))
    written = frames_of(record, cache)
    cache.write(record, written)
    wanted = [7, 3, 3, 2]
    for place, level in enumerate(cache.read(record, wanted)):
        assert level.shape == (4, *LEVELS[place])
        for found, frame in zip(level, wanted):
            assert np.array_equal(found, written[frame - 2][place])


def test_what_changed_is_missing_and_what_did_not_is_not(make_video, cache):
    record = make_video("v", [{1: BOX}] * 3)
    cache.write(record, frames_of(record, cache))
    renamed = replace(record, video_id="set/v", annotations={})
    assert list(cache.missing([record, renamed])) == []
    others = [
        replace(cache, encoder="other weights"),
        replace(cache, image_size=(96, 96)),
        replace(cache, levels=((3, 4, 4), (6, 2, 2))),
    ]
    assert all(list(other.missing([record, record])) == [record] for other in others)
    half = replace(record, frame_range=(0, 2))
    assert list(cache.missing([half])) == [half]
    os.utime(record.frame_paths[1], ns=(1, 1))
    assert list(cache.missing([record])) == [record]
    with pytest.raises(DataError, match=r"no features of video v .* as it is now; begin the training again"):
        cache.read(record, [0])


def test_a_pack_s_videos_are_told_apart_by_their_shards(make_video, cache, tmp_path):
    videos = [make_video(name, [{1: BOX}] * 3) for name in ("a", "b")]
    pack(videos, str(tmp_path / "pack"), workers=1)
    a, b = open_packed(str(tmp_path / "pack"))
    cache.write(a, frames_of(a, cache))
    assert list(cache.missing([a, b])) == [b]
    (shard,) = (tmp_path / "pack").glob("shard-*")
    os.utime(shard, ns=(1, 1))
    assert list(cache.missing([a, b])) == [a, b]


def test_a_killed_computation_leaves_nothing_that_is_read(make_video, cache):
    record = make_video("v", [{1: BOX}] * 3)

    def killed():
        yield frames_of(record, cache)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write(record, killed())
    assert list(cache.missing([record])) == [record]
    cache.write(record, frames_of(record, cache))
    assert list(cache.missing([record])) == []


def test_damage_is_refused_with_the_file_s_name_or_harmless(make_video, cache):
    record = make_video("v", [{1: BOX}] * 3)
    cache.write(record, frames_of(record, cache))
    file = only_file(cache)
    whole, expected = file.read_bytes(), cache.read(record, [0, 1, 2])
    refusals = []
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        file.write_bytes(bytes(damaged))
        try:
            found = cache.read(record, [0, 1, 2])
        except DataError as error:
            refusals.append(str(error))
        else:
            assert all(np.array_equal(a, b) for a, b in zip(found, expected)), place
    assert len(refusals) > len(whole) / 7 / 3
    assert all(f"{file}: the features of video v are damaged" in text for text in refusals)
    assert all("delete the file" in text for text in refusals)
    file.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="are damaged"):
        cache.read(record, [0])


def test_another_video_s_file_is_refused(make_video, cache):
    videos = [make_video(name, [{1: BOX}] * 3) for name in ("a", "b")]
    cache.write(videos[0], frames_of(videos[0], cache))
    first = only_file(cache)
    cache.write(videos[1], frames_of(videos[1], cache))
    (second,) = set(Path(cache.folder).iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    with pytest.raises(DataError, match="holds something else"):
        cache.read(videos[1], [0])
    other = replace(cache, encoder="other weights")
    Path(cache.folder).rename(other.folder)
    with pytest.raises(DataError, match="holds something else"):
        other.read(videos[0], [0])


def test_clips_differ_in_nothing_but_their_images(make_video, cache):
    """A clip that runs backwards, and one that is padded."""
    records = [make_video("long", [{1: BOX, 2: BOX}] * 9), make_video("short", [{1: BOX}] * 2)]
    for record in records:
        cache.write(record, frames_of(record, cache))
    spec = replace(SPEC, reverse_probability=0.5, max_frame_stride=2)
    for index in range(8):
        plain = make_clip(records, SampleKey(0, index), spec)
        cached = make_clip(records, SampleKey(0, index), spec.reading(cache))
        assert "images" not in cached
        assert torch.equal(plain["masks"], cached["masks"])
        assert torch.equal(plain["valid_masks"], cached["valid_masks"])
        assert plain["frame_indices"] == cached["frame_indices"]
        for one, two in zip(plain["prompts"], cached["prompts"]):
            assert torch.equal(one["point_coords"], two["point_coords"])
        expected = cache.read(records[index % 2], cached["frame_indices"])
        for level, bits in zip(cached["features"], expected):
            assert level.dtype == torch.bfloat16
            assert np.array_equal(level.view(torch.int16).numpy().view(np.uint16), bits)


def test_a_batch_of_clips_a_blank_one_among_them(make_video, cache):
    record = make_video("v", [{1: BOX}] * 6)
    cache.write(record, frames_of(record, cache))
    spec = SPEC.reading(cache)
    batch = collate_fn([make_clip([record], SampleKey(0, 0), spec), as_tensors(draw_blank(spec, "blank"))])
    assert "images" not in batch
    assert [tuple(level.shape) for level in batch["features"]] == [(2, 4, *level) for level in LEVELS]
    assert batch["features"][0][0].any()
    assert not batch["features"][0][1].any()


def test_places(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_root(AUTO) == "/somewhere/sam2vt/features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root(AUTO) == os.path.expanduser("~/.cache/sam2vt/features")
    assert cache_root("s3://bucket/features/") == "s3://bucket/features"
    assert cache_root("~/here") == os.path.expanduser("~/here")
