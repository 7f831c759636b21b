"""One video's faults: each with its place, however many there are."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.writing.pack import pack

SIZE = (48, 64)
READ_ALL = VideoCheck("all", clip_length=2)


def write_masks(folder: Path, num_frames: int) -> None:
    folder.mkdir(parents=True)
    for i in range(num_frames):
        labels = np.zeros(SIZE, np.uint8)
        labels[4:20, 4:20] = 1
        Image.fromarray(labels).save(folder / f"{i:05d}.png")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tree of one video of 10 JPEGs."""
    rng = np.random.default_rng(0)
    write_masks(tmp_path / "Annotations/a", 10)
    (tmp_path / "JPEGImages/a").mkdir(parents=True)
    for i in range(10):
        pixels = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"JPEGImages/a/{i:05d}.jpg")
    return tmp_path


def cut(path: Path) -> str:
    """Leaves the header and the beginning, as an interrupted copy does."""
    path.write_bytes(path.read_bytes()[:-1500])
    return str(path)


def test_each_damaged_image_is_told(folder):
    files = {i: cut(folder / f"JPEGImages/a/{i:05d}.jpg") for i in (2, 3, 9)}
    (record,) = load_records("auto", folder)
    found = READ_ALL(record)
    assert {fault.frame: fault.file for fault in found.faults} == files
    assert {fault.video for fault in found.faults} == {"a"}
    assert found.decoded_frames == 7


def test_a_frame_at_fault_by_its_header_is_told_once(folder):
    Image.new("RGB", (9, 9)).save(folder / "JPEGImages/a/00004.jpg")
    cut(folder / "JPEGImages/a/00005.jpg")
    (record,) = load_records("auto", folder)
    assert [fault.frame for fault in READ_ALL(record).faults] == [4, 5]


def test_each_damaged_image_of_a_pack_is_told(folder, tmp_path):
    for i in (2, 7):
        cut(folder / f"JPEGImages/a/{i:05d}.jpg")
    pack(load_records("auto", folder), str(tmp_path / "packed"), workers=1)
    (record,) = load_records("auto", tmp_path / "packed")
    found = READ_ALL(record)
    assert [(fault.frame, fault.file) for fault in found.faults] == [
        (frame, str(tmp_path / "packed/shard-00000.parquet")) for frame in (2, 7)
    ]


def write_video(path: Path, codec: str, damaged: tuple[int, ...], num_frames: int = 40, gop: int = 8) -> None:
    """A video whose damaged packets hold nothing that decodes."""
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.gop_size = SIZE[1], SIZE[0], gop
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"bf": "0", "sc_threshold": "0"} if codec == "libx264" else {}
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(pixels, 3 * i, 1), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with av.open(str(path)) as file:
        places = [(each.pos, each.size) for each in file.demux(file.streams.video[0]) if each.size]
    content = bytearray(path.read_bytes())
    for start, size in (places[i] for i in damaged):
        head = b"" if codec == "mjpeg" else b"\x00\x00\x00\x04\xff\xff\xff\xff"
        content[start : start + size] = head + b"\xff" * (size - len(head))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "codec", "damaged", "num_sound"),
    [
        # Key frames are 0, 8, 16, 24 and 32: what follows a damaged frame up to the next is passed over.
        ("a.mp4", "libx264", (10, 20, 33), 8 + 2 + 4 + 8 + 1),
        ("a.mp4", "libx264", (10, 11, 33), 8 + 2 + 16 + 1),
        ("a.avi", "mjpeg", (5, 6, 20), 37),
    ],
)
def test_a_video_file_is_entered_behind_damaged_frames(tmp_path, name, codec, damaged, num_sound):
    write_video(tmp_path / name, codec, damaged)
    write_masks(tmp_path / "a", 40)
    (record,) = load_records("auto", tmp_path)
    found = READ_ALL(record)
    hidden = {11} if damaged[1] == 11 else set()  # it needs frame 10
    assert [fault.frame for fault in found.faults] == sorted({*damaged} - hidden)
    assert {(fault.video, fault.file) for fault in found.faults} == {("a", str(tmp_path / name))}
    assert found.decoded_frames == num_sound


@pytest.mark.parametrize("depth", ["headers", "masks", "all"])
def test_a_video_file_that_is_gone_since_it_was_indexed(tmp_path, depth):
    path = tmp_path / "a.mp4"
    write_video(path, "libx264", (), num_frames=4)
    write_masks(tmp_path / "a", 4)
    (record,) = load_records("auto", tmp_path)
    path.unlink()
    (fault,) = VideoCheck(depth)(record).faults
    assert (fault.video, fault.file) == ("a", str(path))


def test_objects_of_faulty_masks_are_told(folder, tmp_path):
    """Of a COCO JSON: the object's id and the frame."""
    images = [{"id": i, "video_id": "v", "file_name": f"JPEGImages/a/{i:05d}.jpg"} for i in range(3)]
    good, bad = [[2, 2, 9, 2, 9, 9]], [[2, 2, 9, 2]]
    shapes = [
        (i, track, bad if (i, track) in {(1, 4), (2, 7)} else good) for i in range(3) for track in (4, 7)
    ]
    annotations = [
        {"id": n, "image_id": i, "track_id": track, "segmentation": shape}
        for n, (i, track, shape) in enumerate(shapes)
    ]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    (record,) = load_records("coco", path)
    found = READ_ALL(record)
    places = [(fault.video, fault.frame, fault.object, fault.file) for fault in found.faults]
    assert places == [("v", 1, 4, str(path)), ("v", 2, 7, str(path))]
