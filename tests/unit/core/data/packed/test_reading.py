"""What comes out of a pack against what went into it."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sam2vt.config import DatasetConfig
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.dataset import VideoDataset, create_dataloader
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.packed import open_packed
from sam2vt.core.data.frames.reading import iterate_frames, read_frames
from sam2vt.core.data.frames.video import probe_video, video_source
from sam2vt.core.data.masks.loading import find_object_ids, known_objects, load_masks, load_void
from sam2vt.core.data.opening import open_records
from sam2vt.core.data.packed.reader import SlicedFile, _slice
from sam2vt.core.data.records.splits import split_records
from sam2vt.core.data.videos import first_prompts
from sam2vt.core.data.writing import pack as writer
from sam2vt.core.data.writing.pack import PackOptions, pack
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

SEGMENT = 8


@pytest.fixture(scope="module")
def packed(sources, tmp_path_factory) -> str:
    """The sources in several shards, so that videos begin and end within them."""
    out = str(tmp_path_factory.mktemp("packs") / "pack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_MEGABYTE", 100_000)
        made = pack(sources, out, PackOptions(segment_frames=SEGMENT, shard_mb=1), workers=1)
    assert len(made.shards) > 3
    return out


def assert_equal_masks(left: VideoRecord, right: VideoRecord) -> None:
    assert list(left.annotations) == list(right.annotations)
    for frame in left.annotations:
        (a, b), (void_a, void_b) = (
            [load(each, frame) for each in (left, right)] for load in (load_masks, load_void)
        )
        assert list(a) == list(b)
        assert all(a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]) for key in a)
        assert (void_a is None) == (void_b is None)
        assert void_a is None or np.array_equal(void_a, void_b)
        assert known_objects(left, frame) == known_objects(right, frame)


def test_nothing_is_lost(sources, packed):
    found = load_records("auto", packed)
    assert len(found) == len(sources)
    for source, record in zip(sources, found):
        for name in ("video_id", "num_frames", "height", "width", "object_ids", "object_names"):
            assert getattr(record, name) == getattr(source, name)
        assert record.source == packed
        assert_equal_masks(source, record)
        assert find_object_ids(record) == find_object_ids(source)
        for a, b in zip(iterate_frames(source), iterate_frames(record), strict=True):
            assert np.array_equal(a, b)
        order = np.random.default_rng(0).permutation(source.num_frames)[:7]
        assert np.array_equal(read_frames(source, order), read_frames(record, order))


@pytest.mark.parametrize("workers", [0, 2])
def test_same_batches_through_the_loader(sources, packed, workers):
    options = {
        "batch_size": 2,
        "num_workers": workers,
        "image_size": (64, 64),
        "video_clip_length": 4,
        "clips_per_video": 4,
        "max_conditioning_frames": 2,
        "seed": 3,
    }
    expected = create_dataloader("auto", "", None, records=sources, **options)
    found = create_dataloader("auto", packed, None, **options)
    batches = list(zip(expected, found, strict=True))
    assert len(batches) == 10
    for a, b in batches:
        assert a.keys() == b.keys()
        for name in ("images", "masks", "valid_masks"):
            assert a[name].numpy().tobytes() == b[name].numpy().tobytes()
        for prompts_a, prompts_b in zip(a["prompts"], b["prompts"], strict=True):
            for prompt_a, prompt_b in zip(prompts_a, prompts_b, strict=True):
                assert prompt_a.keys() == prompt_b.keys()
                for name, value in prompt_a.items():
                    other = prompt_b[name]
                    assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        rest = a.keys() - {"images", "masks", "valid_masks", "prompts"}
        assert {name: a[name] for name in rest} == {name: b[name] for name in rest}


@pytest.mark.parametrize(
    ("source", "kind", "points"),
    [("all.json", "COCODataset", 3), ("annotations.xml", "VideoDataset", (1, 3))],
)
def test_the_number_of_points_is_the_sources(sources, tmp_path, source, kind, points):
    """COCO's is exact; all others draw from 1 on, those too whose masks are run lengths, such as CVAT's."""
    (segmented,) = (replace(each, source=source) for each in sources if each.video_id == "segmented")
    pack([segmented], str(tmp_path / "pack"), workers=1)
    for data in ({"records": [segmented], "dataset_path": ""}, {"dataset_path": str(tmp_path / "pack")}):
        loader = create_dataloader("auto", prompt_types=["point"], num_of_pos_points=3, num_workers=0, **data)
        assert loader.dataset.prompt_generator.number_of_pos_points == points
        assert type(loader.dataset).__name__ == kind


def test_splits_and_whole_videos(sources, packed):
    table = open_packed(packed)
    assert table.video_ids().to_pylist() == [source.video_id for source in sources]
    for sides in zip(split_records(sources, "time", 0.3, 0), split_records(table, "time", 0.3, 0)):
        for source, record in zip(*sides, strict=True):
            assert record.frames == source.frames
            assert_equal_masks(
                replace(source, annotations=part(source)), replace(record, annotations=part(record))
            )
            args = (64, PromptGenerator(), np.random.default_rng(0))
            assert (
                first_prompts(source, *args)[1]
                == first_prompts(record, *(*args[:2], np.random.default_rng(0)))[1]
            )
    train, val = split_records(table, "video", 0.4, 1)
    expected_train, expected_val = split_records(sources, "video", 0.4, 1)
    assert [each.video_id for each in train] == [each.video_id for each in expected_train]
    assert [each.video_id for each in val] == [each.video_id for each in expected_val]


def part(record):
    return {i: record.annotations[i] for i in record.annotated_frames}


def test_is_read_from_a_uri_by_row_and_after_a_move(sources, packed, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(packed, moved)
    for path in (moved.as_uri(), f"{moved.as_uri()}/", str(moved / "manifest.json")):
        table = open_records(DatasetConfig(data_path=path))
        assert len(pickle.dumps(table)) < 300
        copy = pickle.loads(pickle.dumps(table))
        assert copy[1].packed.root.rstrip("/").endswith(str(moved))
        assert np.array_equal(read_frames(copy[1], [9]), read_frames(sources[1], [9]))
        assert len(load_records("video", path)) == len(sources)
    assert np.array_equal(
        read_frames(load_records("coco", moved.as_uri())[4], [9, 3]), read_frames(sources[4], [9, 3])
    )
    assert len(VideoDataset(str(moved))) == len(sources)
    with pytest.raises(DataError, match="holds no shards of `sam2vt pack`"):
        load_records("auto", tmp_path.as_uri())
    with pytest.raises(ConfigError, match="identity=iou.*leave out dataset.identity .--identity"):
        open_records(DatasetConfig(data_path=str(moved), identity="iou"))


def test_a_pack_of_a_pack_is_the_same(packed, sources, tmp_path):
    single, again = tmp_path / "single", tmp_path / "again"
    pack(sources, str(single), PackOptions(segment_frames=SEGMENT), workers=1)
    pack(open_packed(packed), str(again), PackOptions(segment_frames=SEGMENT), workers=1)
    for name in ("shard-00000.parquet", "records.parquet", "manifest.json"):
        assert (single / name).read_bytes() == (again / name).read_bytes()
    other = str(tmp_path / "other")
    pack(open_packed(packed), other, PackOptions(segment_frames=5), workers=1)
    for source, record in zip(sources, open_packed(other)):
        assert_equal_masks(source, record)
        for a, b in zip(iterate_frames(source), iterate_frames(record), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(("encode", "exact"), [("png", True), ("jpeg:90", False)])
def test_encoded_anew(sources, tmp_path, encode, exact):
    pack(sources, str(tmp_path / "pack"), PackOptions(encode=encode), workers=1)
    for source, record in zip(sources, open_packed(str(tmp_path / "pack"))):
        assert record.packed.file is None
        assert record.intensity_range is None
        assert_equal_masks(source, record)
        pairs = list(zip(iterate_frames(source), iterate_frames(record), strict=True))
        assert all(np.array_equal(a, b) for a, b in pairs) == exact
    for text in ("jpeg", "jpeg:0", "jpeg:101", "webp", ""):
        with pytest.raises(ConfigError, match="--encode"):
            PackOptions(encode=text)


def test_a_video_file_is_read_in_slices(tmp_path, sources):
    """Exactly the file, with a few slices in memory; and only a little is read for a clip."""
    (video,) = (each for each in sources if each.video_id == "video")
    pack([video], str(tmp_path / "pack"), PackOptions(segment_frames=2), workers=1)
    (record,) = open_packed(str(tmp_path / "pack"))
    content = Path(video.video_path).read_bytes()
    with video_source(record).open() as file:
        assert isinstance(file, SlicedFile)
        assert file.read() == content
        for start, size in np.random.default_rng(0).integers(0, len(content), (20, 2)).tolist():
            file.seek(start)
            piece = b""
            while len(piece) < size and (more := file.read(size - len(piece))):
                piece += more
            assert piece == content[start : start + size]
        assert file.seek(0, 2) == len(content)
        assert file.read(5) == b""
        assert _slice.cache_info().currsize <= 4


@pytest.mark.parametrize(
    "name",
    ["nasa_13013_rotated.mp4", "discard_first_keyframe.mp4", "no_duration.webm", "decord_unordered.mov"],
)
def test_real_videos_decode_as_from_their_files(shared_data, tmp_path, name):
    probe = probe_video(shared_data / "decode" / name)
    source = VideoRecord(name, probe.num_frames, probe.height, probe.width, {}, video_path=probe.path)
    pack([source], str(tmp_path / "pack"), workers=1)
    (record,) = open_packed(str(tmp_path / "pack"))
    for a, b in zip(iterate_frames(source), iterate_frames(record), strict=True):
        assert np.array_equal(a, b)
    order = [source.num_frames - 1, 0, source.num_frames // 2]
    assert np.array_equal(read_frames(source, order), read_frames(record, order))


def test_memory_is_that_of_a_segment(tmp_path):
    """By Arrow's own count, over a video of 40 segments that is read through, frames and masks."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = tuple(str(folder / f"{i:04d}.png") for i in range(160))
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    record = VideoRecord("long", 160, 64, 64, {}, frame_paths=paths)
    pack([record], str(tmp_path / "pack"), PackOptions(segment_frames=4), workers=1)
    segment = 4 * (folder / "0000.png").stat().st_size
    (packed,) = open_packed(str(tmp_path / "pack"))
    usual, counted = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(counted)
    try:
        assert sum(1 for _ in iterate_frames(packed)) == 160
    finally:
        pa.set_memory_pool(usual)
    assert segment < counted.max_memory() < 5 * segment


def test_the_columns_that_are_documented(packed):
    file = pq.ParquetFile(f"{packed}/shard-00000.parquet")
    assert file.schema_arrow.names == [
        "video_id",
        "video",
        "segment",
        "first_frame",
        "num_frames",
        "masks",
        "index",
        "metadata",
        "data",
    ]
    assert file.num_row_groups == file.metadata.num_rows  # a row can be read alone
    row = file.read_row_group(1).to_pylist()[0]
    assert (row["video_id"], row["segment"], row["num_frames"], len(row["data"])) == (
        "labels",
        0,
        SEGMENT,
        SEGMENT,
    )
    assert [each["frame"] for each in row["masks"]] == [1, 2, 4, 5, 7]
