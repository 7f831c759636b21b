from __future__ import annotations

import pickle

import numpy as np
import pytest

from sam2vt.core.data.records.splits import split_records
from sam2vt.core.data.records.table import RecordsByRow, RecordTable, write_records
from sam2vt.core.types import LabelImage, ObjectImages, VideoRecord
from sam2vt.errors import ConfigError, DataError


def record(video_id="v", num_frames=10, annotated=None, frame_range=None, **fields):
    indices = range(num_frames) if annotated is None else annotated
    return VideoRecord(
        video_id,
        num_frames,
        4,
        4,
        {i: LabelImage(f"{i}.png") for i in indices},
        frame_paths=tuple(f"{i}.jpg" for i in range(num_frames)),
        frame_range=frame_range,
        source=f"data/{video_id}",
        **fields,
    )


def videos(count):
    return [record(f"video_{i:02d}") for i in range(count)]


def test_none_uses_all_on_both_sides():
    records = videos(3)
    assert split_records(records, "none", 0.2, 0) == (records, records)
    assert split_records(records, "none", 0.0, 0) == (records, records)


def test_none_gives_lists_of_what_is_no_table():
    train, val = split_records(tuple(videos(2)), "none", 0.2, 0)
    assert train == val == videos(2)


@pytest.mark.parametrize(
    ("count", "fraction", "held"), [(10, 0.2, 2), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1)]
)
def test_whole_videos_are_on_one_side_only(count, fraction, held):
    records = videos(count)
    train, val = split_records(records, "video", fraction, 3)
    assert len(val) == held
    assert not {each.video_id for each in train} & {each.video_id for each in val}
    assert sorted(train + val, key=records.index) == records
    assert train == sorted(train, key=records.index)


def test_which_videos_are_held_back_follows_from_the_seed():
    records = videos(12)
    held = [
        tuple(each.video_id for each in split_records(records, "video", 0.25, seed)[1]) for seed in range(6)
    ]
    assert held[0] == tuple(each.video_id for each in split_records(records, "video", 0.25, 0)[1])
    assert len(set(held)) > 1
    reversed_order = split_records(records[::-1], "video", 0.25, 0)[1]
    assert {each.video_id for each in reversed_order} == set(held[0])


@pytest.mark.parametrize("num_frames", [2, 3, 7, 10, 101])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_time_leaves_no_frame_on_both_sides_and_none_out(num_frames, fraction):
    (train,), (val,) = split_records([record(num_frames=num_frames)], "time", fraction, 0)
    assert [*train.frames, *val.frames] == list(range(num_frames))
    assert train.annotated_frames == list(train.frames)
    assert val.annotated_frames == list(val.frames)
    assert abs(len(val.frames) - fraction * num_frames) <= 1
    assert len(train.frames) >= 1


def test_time_keeps_frame_indices_and_what_was_limited_before():
    (train,), (val,) = split_records([record(frame_range=(2, 8))], "time", 0.5, 0)
    assert (train.frames, val.frames) == (range(2, 5), range(5, 8))
    assert (train.num_frames, val.num_frames) == (10, 10)
    assert val.annotations[7] == LabelImage("7.png")


def test_time_keeps_the_objects_of_each_side():
    video = record(annotated=(), object_ids=(1, 2, 3))
    video.annotations.update({0: ObjectImages({1: "a", 2: "b"}), 9: ObjectImages({2: "c", 3: "d"})})
    (train,), (val,) = split_records([video], "time", 0.3, 0)
    assert (train.object_ids, val.object_ids) == ((1, 2), (2, 3))
    # A label image does not tell its objects, so that all may be there.
    video.annotations[8] = LabelImage("8.png")
    (train,), (val,) = split_records([video], "time", 0.3, 0)
    assert (train.object_ids, val.object_ids) == ((1, 2), (1, 2, 3))


@pytest.mark.parametrize(
    ("num_frames", "fraction", "held"),
    [(10, 0.26, 3), (10, 0.24, 2), (9, 0.01, 1), (9, 0.99, 8), (2, 0.9, 1)],
)
def test_time_holds_back_the_share_rounded_and_at_least_one_frame_per_side(num_frames, fraction, held):
    (train,), (val,) = split_records([record(num_frames=num_frames)], "time", fraction, 0)
    cut = num_frames - held
    assert (train.frame_range, val.frame_range) == ((0, cut), (cut, num_frames))


@pytest.mark.parametrize("number", [8, 9])
def test_a_refusal_names_the_first_annotated_frames(number):
    listed = "0, 1, 2, 3, 4, 5, 6, 7" + (", ..." if number == 9 else "")
    message = (
        f"frames 16 to 19, which .* gives to validation, .*; its annotated frames are {listed}\\. Change"
    )
    with pytest.raises(DataError, match=message):
        split_records([record(num_frames=20, annotated=range(number))], "time", 0.2, 0)


def test_splits_share_no_real_frame(shared_data):
    from sam2vt.core.data.formats import load_records

    records = load_records("auto", shared_data / "pumavos_chair")
    (train,), (val,) = split_records(records, "time", 1 / 3, 0)
    paths = [{side.frame_paths[i] for i in side.frames} for side in (train, val)]
    masks = [{side.annotations[i].path for i in side.annotated_frames} for side in (train, val)]
    assert (len(paths[0]), len(paths[1]), len(masks[0]), len(masks[1])) == (40, 20, 40, 20)
    assert not paths[0] & paths[1]
    assert not masks[0] & masks[1]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
@pytest.mark.parametrize("mode", ["video", "time"])
def test_bounds_of_the_fraction(mode, fraction):
    with pytest.raises(ConfigError, match=f"val_fraction={fraction}: must be above 0 and below 1"):
        split_records(videos(4), mode, fraction, 0)


def test_unknown_split():
    with pytest.raises(ConfigError, match="split='random': must be one of none, video, time"):
        split_records(videos(4), "random", 0.2, 0)


@pytest.mark.parametrize(("count", "names"), [(0, "none"), (1, r"video_00 \(data/video_00\)")])
def test_one_video_cannot_be_split_by_videos(count, names):
    with pytest.raises(DataError, match=rf"at least 2 videos .* got {count}: {names}\..*split=time"):
        split_records(videos(count), "video", 0.2, 0)


def test_one_frame_cannot_be_split_by_time():
    with pytest.raises(DataError, match=r"data/v: video v has 1 usable frames; split=time needs at least 2"):
        split_records([record(num_frames=1)], "time", 0.2, 0)


@pytest.mark.parametrize(("annotated", "side"), [([0, 3], "validation"), ([9], "training")])
def test_a_side_without_annotation_is_refused(annotated, side):
    with pytest.raises(
        DataError, match=rf"video v: none of the frames .* gives to {side}, is annotated; .*{annotated[0]}"
    ):
        split_records([record(annotated=annotated)], "time", 0.2, 0)


@pytest.mark.parametrize("mode", ["none", "video", "time"])
def test_a_table_is_split_as_its_records_are(tmp_path, mode):
    names = np.random.default_rng(0).permutation(700).tolist()
    records = [record(f"{'éz'[i % 2]}{i}", num_frames=4 + i % 9, object_ids=(1, 2)) for i in names]
    write_records(records, tmp_path / "t.parquet")
    sides = split_records(RecordTable(tmp_path / "t.parquet"), mode, 0.3, 5)
    for side, expected in zip(sides, split_records(records, mode, 0.3, 5)):
        assert isinstance(side, RecordsByRow)
        assert len(side) == len(expected)
        assert list(side) == expected
        again = pickle.loads(pickle.dumps(side))
        assert (again[-3], again[4:6]) == (expected[-3], expected[4:6])
        # The numbers of its rows, not the rows: a record takes some kilobytes.
        assert len(pickle.dumps(side)) < 500 + 8 * len(side)


def test_a_table_that_cannot_be_split(tmp_path):
    write_records([record(annotated=[9]), record("w")], tmp_path / "t.parquet")
    with pytest.raises(DataError, match="video v: none of the frames 0 to 7.*gives to training"):
        split_records(RecordTable(tmp_path / "t.parquet"), "time", 0.2, 0)
    write_records([record("w"), record(annotated=[9])], tmp_path / "t.parquet")
    train, _ = split_records(RecordTable(tmp_path / "t.parquet"), "time", 0.2, 0)
    assert train[0].frames == range(8)
    with pytest.raises(DataError, match="video v: none of the frames 0 to 7.*gives to training"):
        train[1]
