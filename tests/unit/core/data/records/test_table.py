"""Records written to a table and read back by row."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.records import table as record_table
from sam2vt.core.data.records.table import RecordTable, write_records
from sam2vt.core.types import (
    Figures,
    LabelImage,
    ObjectImages,
    PackedMasks,
    PackedVideo,
    Segmentations,
    VideoRecord,
)
from sam2vt.errors import DataError


def record(video_id="v", num_frames=5, **fields):
    frames = tuple(f"/d/{video_id}/{i:05d}.jpg" for i in range(num_frames))
    given = {"annotations": {}, "frame_paths": frames, "source": f"/d/{video_id}", **fields}
    return VideoRecord(video_id, num_frames, 48, 64, **given)


RLE = {"size": [48, 64], "counts": "abc^`\\"}
ODD = {
    "labels": record(annotations={i: LabelImage(f"/m/{i}.png") for i in range(5)}),
    "labels with gaps": record(annotations={i: LabelImage(f"/m/{i:04}.png") for i in (0, 3, 4)}),
    "numbers outgrow their digits": record(
        annotations={}, frame_paths=tuple(f"/d/a{i:02}b.jpg" for i in (98, 99, 100, 101, 7))
    ),
    "names without pattern": record(frame_paths=("/d/a.jpg", "/d/b2.jpg", "/d/ü.png", "/d/c", "/d/01")),
    "paths without folder in common": record(frame_paths=("a.jpg", "/b/2.jpg", "c/3.jpg", "/d//4.jpg", "5")),
    "digits of other scripts": record(frame_paths=tuple(f"/d/{i}.jpg" for i in "٠١٢٣٤")),
    "falling numbers": record(frame_paths=tuple(f"/d/{i}.jpg" for i in (9, 8, 7, 6, 5))),
    "objects": record(
        annotations={
            0: ObjectImages({1: "/m/1/0.png", 7: "/m/7/0.png"}),
            2: ObjectImages({}),
            4: ObjectImages({7: "/m/7/4.png"}),
        },
        object_ids=(1, 7),
    ),
    "segmentations": record(
        annotations={
            1: Segmentations({3: [RLE, {"size": [48, 64], "counts": b"\x00\xff"}], 4: []}),
            3: Segmentations({3: [[[0.1, 2.5, 1e-17, 4, 5, 6]], {"size": [48, 64], "counts": [1, 2, 3069]}]}),
        },
        object_ids=(),
    ),
    "kinds mixed": record(annotations={0: LabelImage("/m"), 1: Segmentations({}), 2: ObjectImages({2: "x"})}),
    "video file": record(frame_paths=None, video_path="/v/clip.mp4", frame_range=(1, 4)),
    "packed images": record(
        frame_paths=None,
        annotations={i: PackedMasks() for i in (0, 2, 4)},
        packed=PackedVideo("s3://b/d", 2, (("shard-00000.parquet", 7, 2), ("shard-00001.parquet", 0, 1))),
    ),
    "packed file": record(
        frame_paths=None,
        annotations={3: PackedMasks(), 4: LabelImage("/m")},
        packed=PackedVideo("/d", 16, (("shard-00000.parquet", 0, 1),), (".mp4", 12_345), coco=True),
    ),
    "still": record(is_still=True, member=0, object_names={1: "cat", 2: None}, object_list="/d/meta.json"),
    "codings": record(
        classes={1: "car"}, colours={"a": (1, 2, 3)}, intensity_range=(0.5, 4095), parents={3: 1}, member=2
    ),
    "figures": record(
        annotations={
            0: Figures({2: [{"figure": "bitmap", "data": "eJw=", "origin": [1, 2]}], 3: []}),
            4: Figures({}),
        }
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_records_survive(tmp_path, name) -> None:
    write_records([ODD[name]], tmp_path / "one.parquet")
    (found,) = RecordTable(tmp_path / "one.parquet")
    assert found == ODD[name]
    assert list(found.annotations) == sorted(ODD[name].annotations)


@pytest.mark.parametrize(
    ("folder", "identity"),
    [
        ("davis17_bmx-trees", "error"),
        ("pumavos_chair", "error"),
        ("pumavos_chair/chair.mp4", "error"),
        ("davis17_schoolgirls_mp4", "error"),
        ("endoscapes_coco", "category"),
        ("endoscapes_coco", "iou"),
    ],
)
def test_real_layouts_survive(shared_data, tmp_path, folder, identity) -> None:
    records = load_records("auto", shared_data / folder, identity=identity)
    write_records(records, tmp_path / "real.parquet")
    assert list(RecordTable(tmp_path / "real.parquet")) == records


def test_is_read_by_row_from_anywhere(tmp_path, monkeypatch) -> None:
    records = [record(f"v{i:04}", num_frames=3 + i % 5) for i in range(1500)]
    write_records((each for each in records), (tmp_path / "deep" / "t.parquet").as_uri())
    table = RecordTable((tmp_path / "deep" / "t.parquet").as_uri())
    assert len(table) == 1500
    for place in np.random.default_rng(0).permutation(1500):
        assert table[place] == records[place]
    assert len(table._groups) <= 4 < len(table._ends)
    assert (table[-1], table[2:9:3]) == (records[-1], records[2:9:3])
    copy = pickle.loads(pickle.dumps(table))
    assert copy[500] == records[500]
    assert len(pickle.dumps(table)) < 300
    with pytest.raises(IndexError, match="record 1500 of 1500"):
        table[1500]
    handle = table._file
    monkeypatch.setattr(os, "getpid", lambda: -1)
    table._groups.clear()
    assert table[0] == records[0]
    assert table._file is not handle  # as after a fork


def test_large_records_get_groups_of_their_own(tmp_path) -> None:
    large = record(annotations={0: Segmentations({1: [[[0.5] * 400_000]]})})
    write_records([large] * 3, tmp_path / "large.parquet")
    table = RecordTable(tmp_path / "large.parquet")
    assert len(table._ends) == 3
    assert table[2] == large


def test_a_table_of_a_million_videos_stays_small(tmp_path) -> None:
    """By the bytes of 20,000 videos of 20 frames, file and footer."""
    masks = {i: LabelImage(f"/data/Annotations/video/{i:05}.png") for i in range(20)}
    write_records((record(f"{i:08}", 20, annotations=masks) for i in range(20_000)), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size / 20_000 < 20
    assert pq.read_metadata(tmp_path / "t.parquet").serialized_size / 20_000 < 1.2


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    write_records([record("old")], path)
    with pytest.raises(DataError, match="video new cannot be written .* allowed are numbers, text"):
        write_records([record("a"), record("new", object_names={1: np.zeros(2)})], path)
    with pytest.raises(DataError, match="there is no record to write"):
        write_records([], path)
    assert [each.video_id for each in RecordTable(path)] == ["old"]
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_what_is_no_table_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="none.parquet: cannot be opened"):
        RecordTable(tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="other.parquet: the Parquet file is no record table; .*sam2vt index"):
        RecordTable(tmp_path / "other.parquet")
    write_records([record()], tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match="t.parquet: cannot be opened as a record table"):
        RecordTable(tmp_path / "t.parquet")


def test_damage_inside_is_said_when_it_is_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(record_table, "_ROWS_A_GROUP", 1)
    write_records([record("a"), replace(record("b"), source="x" * 500)], tmp_path / "t.parquet")
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4:120] = bytes(116)
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match="t.parquet: the record table cannot be read"):
        RecordTable(tmp_path / "t.parquet")[0]
