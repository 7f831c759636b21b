"""Clips: which frames, which objects, which prompts; pure functions of seed, epoch and index."""

from __future__ import annotations

import logging
import multiprocessing
from dataclasses import replace

import pytest
import torch

from sam2vt.core.data.clips.drawing import make_clip, warn_short_videos
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.types import Clip, SampleKey, VideoRecord
from sam2vt.errors import ConfigError, DataError

LEFT, MIDDLE, RIGHT = (2, 4, 18, 40), (24, 8, 40, 44), (46, 2, 62, 46)
SPEC = ClipSpec((64, 64), 4, PromptGenerator(["point"]))


def draws(record: VideoRecord, spec: ClipSpec, number: int = 24) -> list[Clip]:
    return [make_clip([record], SampleKey(0, i), spec) for i in range(number)]


def assert_equal(one: Clip, two: Clip) -> None:
    for name in ("images", "masks", "valid_masks"):
        assert one[name].dtype == two[name].dtype
        assert torch.equal(one[name], two[name]), name
    for name in ("video_id", "frame_indices", "object_ids", "original_size", "num_objects"):
        assert one[name] == two[name]
    assert len(one["prompts"]) == len(two["prompts"])
    for a, b in zip(one["prompts"], two["prompts"]):
        assert a.keys() == b.keys()
        assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a.keys() - {"type"})


def test_shapes_types_and_contents(make_video):
    record = make_video("v", [{1: LEFT, 3: RIGHT}] * 10)
    clip = make_clip([record], SampleKey(0, 0), SPEC)
    assert clip["images"].shape == (4, 3, 64, 64)
    assert clip["images"].dtype == torch.uint8
    assert clip["masks"].shape == (4, 2, 64, 64)
    assert clip["masks"].dtype == torch.bool
    assert clip["valid_masks"].shape == (4, 2)
    assert clip["valid_masks"].all()
    assert clip["object_ids"] == [1, 3]
    assert clip["num_objects"] == 2
    assert clip["original_size"] == (48, 64)
    assert clip["video_id"] == "v"
    start = clip["frame_indices"][0]
    assert clip["frame_indices"] == list(range(start, start + 4))
    assert clip["images"][:, :, 0, 0].tolist() == [[i] * 3 for i in clip["frame_indices"]]
    assert not (clip["masks"][:, 0] & clip["masks"][:, 1]).any()
    assert clip["masks"][0, 0, :, 2:18].any(dim=1).sum() == 48  # 36 of 48 rows, at 64
    assert [(p["object_index"], p["frame_index"]) for p in clip["prompts"]] == [(0, 0), (1, 0)]


def test_every_window_can_come_and_epochs_and_seeds_differ(make_video):
    record = make_video("v", [{1: LEFT}] * 8)
    starts = {clip["frame_indices"][0] for clip in draws(record, SPEC, 30)}
    assert starts == set(range(5))

    def order(epoch: int, seed: int) -> list[int]:
        spec = replace(SPEC, seed=seed)
        return [make_clip([record], SampleKey(epoch, i), spec)["frame_indices"][0] for i in range(8)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)


def test_the_index_names_the_video(make_video):
    records = [make_video(name, [{1: LEFT}] * 5) for name in "abc"]
    clips = [make_clip(records, SampleKey(0, i), SPEC) for i in range(7)]
    assert [clip["video_id"] for clip in clips] == list("abcabca")


def test_another_process_draws_the_same_clip(make_video):
    record = make_video("v", [{1: LEFT, 2: MIDDLE, 3: RIGHT}] * 12)
    spec = replace(SPEC, prompts=PromptGenerator(None, (1, 3), num_of_neg_points=1), max_objects=2, seed=7)
    keys = [SampleKey(epoch, index) for epoch in (0, 3) for index in range(4)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(make_clip, [([record], key, spec) for key in reversed(keys)])
    for key, clip in zip(keys, reversed(there)):
        assert_equal(make_clip([record], key, spec), clip)


def test_a_short_video_is_padded_by_its_last_frame(make_video, caplog):
    record = make_video("short", [{1: LEFT}, {1: MIDDLE}, {1: RIGHT}])
    spec = replace(SPEC, clip_length=5)
    with caplog.at_level(logging.WARNING):
        clips = draws(record, spec, 4)
    assert not caplog.records
    for clip in clips:
        assert clip["frame_indices"] == [0, 1, 2, 2, 2]
        assert clip["images"][:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2]
        assert clip["valid_masks"][:, 0].tolist() == [True, True, True, False, False]
        assert clip["masks"].any(dim=(2, 3))[:, 0].tolist() == [True, True, True, False, False]


def test_one_warning_for_each_short_video(make_video, caplog):
    records = [make_video("short", [{1: LEFT}] * 3), make_video("long", [{1: LEFT}] * 7)]
    with caplog.at_level(logging.WARNING):
        warn_short_videos(records, SPEC)
    assert len(caplog.records) == 1
    assert "short" in caplog.text
    assert "3 usable frames" in caplog.text
    caplog.clear()
    warn_short_videos(records, replace(SPEC, frame_stride=3))
    assert len(caplog.records) == 2


def test_stride(make_video):
    record = make_video("v", [{1: LEFT}] * 11)
    spec = replace(SPEC, frame_stride=3)
    assert {tuple(clip["frame_indices"]) for clip in draws(record, spec)} == {(0, 3, 6, 9), (1, 4, 7, 10)}
    # Too short for the stride: either phase, padded.
    short = replace(record, frame_range=(0, 5))
    found = {tuple(clip["frame_indices"]) for clip in draws(short, spec, 16)}
    assert found == {(0, 3, 3, 3), (1, 4, 4, 4), (2, 2, 2, 2)}


def test_frames_without_annotation_are_not_valid(make_video):
    record = make_video("v", [{1: LEFT} if i % 2 == 0 else None for i in range(10)])
    for clip in draws(record, SPEC, 8):
        assert clip["valid_masks"][:, 0].tolist() == [i % 2 == 0 for i in clip["frame_indices"]]
        assert not clip["masks"][~clip["valid_masks"]].any()
        assert clip["prompts"][0]["frame_index"] == clip["frame_indices"][0] % 2


def test_annotated_and_absent_is_valid_and_empty(make_video):
    record = make_video("v", [{1: LEFT}, {}, {1: LEFT}, {}])
    clip = make_clip([record], SampleKey(0, 0), SPEC)
    assert clip["valid_masks"].all()
    assert clip["masks"].any(dim=(2, 3))[:, 0].tolist() == [True, False, True, False]


def test_a_late_object_is_prompted_where_it_appears(make_video):
    record = make_video("v", [{1: LEFT}, {1: LEFT}, {1: LEFT, 2: RIGHT}, {1: LEFT, 2: RIGHT}])
    clip = make_clip([record], SampleKey(0, 0), SPEC)
    assert clip["object_ids"] == [1, 2]
    assert [p["frame_index"] for p in clip["prompts"]] == [0, 2]
    x, y = clip["prompts"][1]["point_coords"][0].int().tolist()
    assert clip["masks"][2, 1, y, x]


def test_windows_that_show_an_object_before_their_last_frame_come_first(make_video):
    record = make_video("v", [{}] * 6 + [{1: LEFT}] * 2 + [{}] * 4)
    for clip in draws(record, SPEC):
        assert clip["masks"][:-1].any()


def test_an_object_of_the_last_frame_only_is_taken_when_there_is_no_other(make_video):
    both = make_video("both", [{1: LEFT}, {1: LEFT}, {1: LEFT}, {1: LEFT, 2: RIGHT}])
    assert make_clip([both], SampleKey(0, 0), SPEC)["object_ids"] == [1]
    only = make_video("only", [{}, {}, {}, {2: RIGHT}])
    clip = make_clip([only], SampleKey(0, 0), SPEC)
    assert clip["object_ids"] == [2]
    assert clip["prompts"][0]["frame_index"] == 3
    single = replace(SPEC, clip_length=1)
    assert all(clip["object_ids"] == [1, 2] for clip in draws(replace(both, frame_range=(3, 4)), single, 3))


def test_more_objects_than_allowed_are_drawn_in_order_of_id(make_video):
    strips = {n: (6 * n, 0, 6 * n + 5, 48) for n in range(1, 9)}
    record = make_video("v", [strips] * 6)
    chosen = [tuple(clip["object_ids"]) for clip in draws(record, replace(SPEC, max_objects=3))]
    assert all(len(ids) == 3 and list(ids) == sorted(ids) for ids in chosen)
    assert {i for ids in chosen for i in ids} == set(range(1, 9))
    assert len(set(chosen)) > 10
    assert make_clip([record], SampleKey(0, 0), SPEC)["object_ids"] == list(range(1, 9))


def test_a_window_with_an_object_is_found(make_video):
    frames = [{} for _ in range(60)]
    frames[41] = {5: MIDDLE}
    record = make_video("rare", frames)
    starts = set()
    for clip in draws(record, SPEC, 12):
        assert 41 in clip["frame_indices"]
        assert clip["object_ids"] == [5]
        starts.add(clip["frame_indices"][0])
    assert len(starts) > 1


def test_a_video_without_a_visible_object_is_an_error(make_video):
    empty = make_video("empty", [{}] * 6)
    with pytest.raises(DataError, match="empty .*frames 0 to 5: no object is visible on any of the 6"):
        make_clip([empty], SampleKey(0, 0), SPEC)
    bare = make_video("bare", [None] * 6)
    with pytest.raises(DataError, match="bare .* any of the 0 annotated"):
        make_clip([bare], SampleKey(0, 0), SPEC)
    outside = make_video("outside", [{1: LEFT}] * 3 + [{}] * 5, frame_range=(3, 8))
    with pytest.raises(DataError, match="outside .*frames 3 to 7"):
        make_clip([outside], SampleKey(0, 0), SPEC)


def test_the_two_parts_of_a_video_split_in_time_share_no_frame(make_video):
    whole = make_video("v", [{1: LEFT}] * 20)
    train, val = replace(whole, frame_range=(0, 14)), replace(whole, frame_range=(14, 20))
    for stride in (1, 6):
        spec = replace(SPEC, frame_stride=stride)
        seen = [{i for clip in draws(part, spec, 16) for i in clip["frame_indices"]} for part in (train, val)]
        assert seen[0] <= set(range(14))
        assert seen[1] <= set(range(14, 20))
        assert max(seen[0]) > 11


def test_further_prompted_frames(make_video):
    record = make_video("v", [{1: LEFT, 2: RIGHT} if i != 2 else {1: LEFT} for i in range(4)])
    spec = replace(SPEC, prompts=PromptGenerator(), max_conditioning_frames=3)
    numbers = set()
    for clip in draws(record, spec, 40):
        prompts = clip["prompts"]
        assert [(p["object_index"], p["frame_index"]) for p in prompts[:2]] == [(0, 0), (1, 0)]
        frames = [{p["frame_index"] for p in prompts if p["object_index"] == n} for n in (0, 1)]
        assert frames[0] - {2} == frames[1]  # shared, but only where the object is visible
        numbers.add(len(frames[0]))
        for n in (0, 1):
            assert len({p["type"] for p in prompts if p["object_index"] == n}) == 1
    assert numbers == {1, 2, 3}
    assert all(len(clip["prompts"]) == 2 for clip in draws(record, SPEC, 8))


def test_a_tiny_object_does_not_vanish(make_video):
    record = make_video("v", [{1: (30, 30, 31, 31)}] * 4)
    clip = make_clip([record], SampleKey(0, 0), replace(SPEC, image_size=(32, 32)))
    assert clip["masks"].any(dim=(2, 3)).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", (64, 96), "square"),
        ("image_size", (100, 100), "multiple of 32"),
        ("clip_length", 0, "clip_length=0: must be at least 1"),
        ("frame_stride", 0, "frame_stride=0"),
        ("max_objects", 0, "max_objects=0"),
        ("max_conditioning_frames", 0, "max_conditioning_frames=0"),
        ("seed", -1, "seed=-1"),
    ],
)
def test_bad_settings_name_their_field(field, value, message):
    with pytest.raises(ConfigError, match=message):
        replace(SPEC, **{field: value})
