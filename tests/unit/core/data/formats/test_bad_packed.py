"""Packed shards with one defect each."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.packed.manifest import shard_schema
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.data.writing.pack import PackOptions, pack

SHARD, OTHER = "shard-00000.parquet", "other/shard-00000.parquet"
COPY = "copy it again, or pack the dataset again"


@pytest.fixture
def folder(tree, tmp_path):
    """A pack of two videos of 6 frames, in rows of 4; beside it one of others."""
    for name, videos in (("pack", {"a": 6, "b": 6}), ("other", {"c": 6, "d": 6})):
        records = load_records("auto", tree(videos, root=f"source_{name}"))
        pack(records, str(tmp_path / name), PackOptions(segment_frames=4), workers=1)
    shutil.move(tmp_path / "other", tmp_path / "pack_other")
    return tmp_path / "pack"


def manifest(change):
    """Edits what manifest.json says."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / "manifest.json").read_text())
        change(content)
        (folder / "manifest.json").write_text(json.dumps(content))

    return edit


def set_to(**fields):
    return manifest(lambda content: content.update(fields))


def trust(folder: Path, name: str = SHARD) -> None:
    """As if the file had been written so: only what reads it can find out."""

    def correct(content):
        for part in (*content["shards"], content["records"]):
            if part["name"] == name:
                part["bytes"] = (folder / name).stat().st_size

    manifest(correct)(folder)


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def truncated(name, keep, trusted=False):
    def cut(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])
        if trusted:
            trust(folder, name)

    return cut


def flipped_bit(row, column):
    """The last byte of a column of a row, as a failing disk would change it."""

    def flip(folder):
        chunk = pq.ParquetFile(folder / SHARD).metadata.row_group(row).column(column)
        content = bytearray((folder / SHARD).read_bytes())
        content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
        (folder / SHARD).write_bytes(content)

    return flip


def rows(change, schema=None):
    """Writes the shard anew with changed rows, and the manifest says so."""

    def edit(folder):
        content = pq.read_table(folder / SHARD).to_pylist()
        change(content)
        with pq.ParquetWriter(folder / SHARD, schema or shard_schema()) as writer:
            for row in content:
                writer.write_table(pa.Table.from_pylist([row], schema=schema or shard_schema()))
        trust(folder)

    return edit


def changed(row, column, value):
    return rows(lambda content: content[row].update({column: value}))


def mask(**fields):
    return rows(lambda content: content[1]["masks"][0].update(fields))


def other_shard(folder):
    shutil.copy(folder.parent / "pack_other" / SHARD, folder / SHARD)
    trust(folder)


def other_size():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def interrupted(folder):
    (folder / "manifest.json").rename(folder / "packing.json")


def no_records(content):
    del content["records"]


def no_checksum(content):
    del content["shards"][0]["sha256"]


ROW = f"{SHARD}: row 1"
DEFECTS = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), ["no manifest.json"], COPY),
    "interrupted": (interrupted, ["no manifest.json", "interrupted"], "run the same command again"),
    "manifest cut": (truncated("manifest.json", 200), ["manifest.json", "is no JSON"], COPY),
    "manifest of brackets": (
        lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
        ["manifest.json", "is no JSON"],
        COPY,
    ),
    "manifest of a later version": (
        set_to(version=2),
        ["is of version 2", "version 1"],
        "pack the dataset again",
    ),
    "manifest without shards": (set_to(shards=[]), ["manifest.json", "no shards"], COPY),
    "manifest without records": (manifest(no_records), ["manifest.json", "records"], COPY),
    "manifest without a checksum": (manifest(no_checksum), ["manifest.json", "sha256"], COPY),
    "manifest with an unknown field": (set_to(codec="x"), ["manifest.json", "codec"], COPY),
    "manifest leads elsewhere": (
        manifest(lambda content: content["shards"][0].update(name=f"../pack_{OTHER}")),
        ["manifest.json", f"../pack_{OTHER}", "no file of a pack"],
        COPY,
    ),
    "records elsewhere": (
        manifest(lambda content: content["records"].update(name=SHARD)),
        ["manifest.json", SHARD, "not in records.parquet"],
        COPY,
    ),
    "shard missing": (lambda folder: (folder / SHARD).unlink(), [SHARD, "missing"], COPY),
    "shard cut": (truncated(SHARD, 3000), [SHARD, "has 3000 bytes"], COPY),
    "shard cut, manifest too": (
        truncated(SHARD, 3000, True),
        [f"{SHARD}: row 0", "cannot be read"],
        "copy the shard",
    ),
    "shard empty": (written(SHARD, b""), [SHARD, "has 0 bytes"], COPY),
    "records missing": (
        lambda folder: (folder / "records.parquet").unlink(),
        ["records.parquet", "missing"],
        COPY,
    ),
    "records cut": (
        truncated("records.parquet", 100, True),
        ["records.parquet", "record table"],
        "copy it again",
    ),
    "a frame's bit": (flipped_bit(1, 16), [ROW, "cannot be read"], "copy the shard again"),
    "a mask's bit": (flipped_bit(1, 7), [ROW, "cannot be read"], "copy the shard again"),
    "shard of another pack": (
        other_shard,
        [f"{SHARD}: row 0", "video c", "video a"],
        "pack the dataset again",
    ),
    "another Parquet file": (
        rows(lambda content: None, shard_schema().remove_metadata()),
        [f"{SHARD}: row 0", "no shard"],
        "pack the dataset again",
    ),
    "a row is missing": (
        rows(lambda content: content.pop()),
        [f"{SHARD}: row 3", "3 rows"],
        "pack the dataset again",
    ),
    "rows exchanged": (
        rows(lambda content: content.reverse()),
        [f"{SHARD}: row 0", "segment 1 of video b"],
        "pack the dataset again",
    ),
    "a frame is missing": (
        rows(lambda content: content[1]["data"].pop()),
        [ROW, "1 frames", "frame 5", "video a"],
        "copy the shard again",
    ),
    "a frame is no image": (changed(1, "data", [b"x", b"y"]), [ROW, "frame 4", "image"], ""),
    "a frame of another size": (changed(1, "data", [other_size()] * 2), [ROW, "frame 4", "7x5"], "one size"),
    "masks are missing": (changed(1, "masks", []), [ROW, "no masks for frame 4"], "pack the dataset again"),
    "counts cut": (mask(counts=[b"0", b"0"]), [ROW, "frame 4", "object 1", "sum to"], "annotation again"),
    "counts of rubbish": (
        mask(counts=[b"\xff", b"\xff"]),
        [ROW, "frame 4", "object 1", "character"],
        "allowed are",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_is_refused_with_its_place(folder, check_bad_input, name):
    change, says, remedy = DEFECTS[name]
    change(folder)
    check_bad_input(folder, [str(folder), *says], remedy)


def test_options_that_mean_nothing(folder, check_bad_input):
    check_bad_input(
        folder, ["identity=iou", "packed shards"], "leave out dataset.identity (--identity)", identity="iou"
    )


def cut_slice(content):
    content[8]["data"] = [content[8]["data"][0][:-1]]


def zeroed_slice(content):
    content[8]["data"] = [bytes(len(content[8]["data"][0]))]


VIDEO_DEFECTS = {
    "a slice is cut": (
        cut_slice,
        [f"{SHARD}: row 8", "bytes of the file of video a"],
        "copy the shard again",
    ),
    "a slice is zeros": (zeroed_slice, [f"{SHARD}: row 0: frame 7 cannot be decoded"], "re-encode"),
    "no times": (
        lambda content: content[0].update(index=None),
        [f"{SHARD}: row 0", "lacks the times"],
        "pack the dataset again",
    ),
}


@pytest.mark.parametrize("name", VIDEO_DEFECTS)
def test_slices_of_a_video_file(tmp_path, tree, check_bad_input, capfd, name):
    source = tree({"a": 12}, root="source")
    shutil.rmtree(source / "JPEGImages/a")
    frames = np.random.default_rng(0).integers(0, 255, (12, 24, 32, 3), dtype=np.uint8)
    write_video(source / "JPEGImages/a.mp4", frames, fps=10)
    out = tmp_path / "pack"
    pack(load_records("auto", source), str(out), PackOptions(segment_frames=1), workers=1)
    change, says, remedy = VIDEO_DEFECTS[name]
    rows(change)(out)
    check_bad_input(out, says, remedy)
    assert "being dropped" not in capfd.readouterr().err  # PyAV's word for a second error
