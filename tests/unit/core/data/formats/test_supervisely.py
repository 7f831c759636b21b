"""Supervisely video projects: bitmaps and polygons with holes, in JSON beside the videos."""

from __future__ import annotations

import base64
import copy
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.core.data.writing.encoding import write_video

SIZE, NUM_FRAMES = (24, 32), 3
BITMAP = np.array([[0, 1, 1], [1, 1, 0]], bool)
JSON = "clip.mp4.json"


def packed(mask, mode="L"):
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    if mode == "RGBA":  # as Supervisely writes it: the mask is the alpha
        image = Image.merge("RGBA", [Image.new("L", image.size)] * 3 + [image])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


def bitmap(**changes):
    content = {"data": packed(BITMAP), "origin": [10, 5], **changes}
    return {"objectKey": "k1", "geometryType": "bitmap", "geometry": {"bitmap": content}}


def polygon(exterior=((4, 4), (20, 4), (20, 16), (4, 16)), interior=(), key="k2"):
    points = {
        "exterior": [list(each) for each in exterior],
        "interior": [list(map(list, each)) for each in interior],
    }
    return {"objectKey": key, "geometryType": "polygon", "geometry": {"points": points}}


CONTENT = {
    "size": {"height": SIZE[0], "width": SIZE[1]},
    "framesCount": NUM_FRAMES,
    "objects": [{"key": "k1", "classTitle": "tool"}, {"key": "k2", "classTitle": "organ"}],
    "frames": [
        {"index": 0, "figures": [bitmap(), polygon()]},
        {"index": 2, "figures": [polygon(interior=[((8, 8), (12, 8), (12, 12), (8, 12))])]},
    ],
}


@pytest.fixture
def project(tmp_path):
    """A dataset of one video; `change` edits the content of its JSON."""

    def write(change=None, dataset="ds0", text=None):
        for name in ("video", "ann"):
            (tmp_path / dataset / name).mkdir(parents=True)
        content = copy.deepcopy(CONTENT)
        if change:
            change(content)
        video = tmp_path / dataset / "video/clip.mp4"
        write_video(video, [np.zeros((*SIZE, 3), np.uint8)] * NUM_FRAMES, fps=5)
        (tmp_path / dataset / "ann" / JSON).write_text(json.dumps(content) if text is None else text)
        (tmp_path / "meta.json").write_text("{}")
        return tmp_path

    return write


def test_figures_are_objects(project):
    (record,) = load_records("auto", project())
    assert (record.video_id, record.num_frames, list(record.annotations)) == ("clip", NUM_FRAMES, [0, 2])
    assert record.object_names == {1: "tool", 2: "organ"}
    expected = np.zeros(SIZE, bool)
    expected[5:7, 10:13] = BITMAP
    first, last = load_masks(record, 0), load_masks(record, 2)
    assert np.array_equal(first[1], expected)
    hole = first[2] & ~last[2]
    assert hole[9:12, 9:12].all()
    assert not hole[:7].any()
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_kinds_of_bitmaps(project, mode):
    change = lambda data: data["frames"][0].update(figures=[bitmap(data=packed(BITMAP, mode))])  # noqa: E731
    (record,) = load_records("auto", project(change))
    assert load_masks(record, 0)[1][5:7, 10:13].tolist() == BITMAP.tolist()


def test_several_datasets(project, tmp_path):
    project(dataset="a")
    project(dataset="b")
    assert [record.video_id for record in load_records("supervisely", tmp_path)] == ["a/clip", "b/clip"]
    (alone,) = load_records("auto", tmp_path / "a")
    assert alone.video_id == "clip"


def figure(new):
    return lambda data: data["frames"][0].update(figures=[new])


def bomb():
    return base64.b64encode(zlib.compress(b"\0" * (1 << 27), 9)).decode()


def huge():
    buffer = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(buffer, "PNG")
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (lambda d: d.pop("size"), (JSON, "size is 'None'"), "must be of type dict"),
        (lambda d: d.update(framesCount=7), (JSON, "for 7 frames", "has 3"), "use the video the masks"),
        (lambda d: d["size"].update(width=9), (JSON, "9x24", "32x24"), "use the video the masks"),
        (lambda d: d.update(frames={}), (JSON, "frames is '{}'"), "must be of type list"),
        (lambda d: d["frames"].clear(), (JSON, "no frame has a figure"), "leave the video out"),
        (lambda d: d["frames"][0].update(index=9), (JSON, "index 9", "3 frames"), "export the annotation"),
        (lambda d: d["frames"][0].update(index=2), (JSON, "index 2", "there twice"), "export the annotation"),
        (lambda d: d["objects"][1].update(key="k1"), (JSON, "objects[1]", "key k1"), "export"),
        (lambda d: d["objects"][0].pop("classTitle"), (JSON, "objects[0]", "classTitle"), "of type str"),
        (figure({**bitmap(), "objectKey": "x"}), (JSON, "frame 0, figure 0", "objectKey x"), "export"),
        (figure({**bitmap(), "geometryType": "rectangle"}), ("object 1", "rectangle"), "draw a mask"),
        (figure(bitmap(origin=[1])), (JSON, "frame 0", "origin is [1]"), "two whole numbers"),
        (figure(bitmap(origin=[31, 0])), ("frame 0", "object 1", "3x2 at x=31"), "its own videos"),
        (figure(bitmap(origin=[-1, 0])), ("frame 0", "object 1", "x=-1"), "its own videos"),
        (figure(bitmap(data="#")), ("frame 0", "object 1", "cannot be unpacked"), "export it again"),
        (figure(bitmap(data="aGVsbG8=")), ("frame 0", "object 1", "cannot be unpacked"), "export it again"),
        (figure(bitmap(data=bomb())), ("object 1", "larger than 67108864 bytes"), "export the figure again"),
        (figure(bitmap(data=huge())), ("object 1", "9000x9000, larger than the frame"), "its own videos"),
        (figure(bitmap(data=packed(BITMAP)[:40])), ("frame 0", "object 1"), "export"),
        (figure(polygon([(1, 2), (3, 4)])), ("frame 0", "object 2", "4 numbers"), "at least 3 points"),
        (figure(polygon([(1, 2), (3, 4), (9e9, 1)])), ("frame 0", "object 2", "x = "), "allowed are pixels"),
        (figure({**polygon(), "geometry": {"points": {"exterior": [1]}}}), ("points are [1]",), "pairs"),
    ],
)  # fmt: skip
def test_bad_annotations(project, check_bad_input, change, says, remedy):
    check_bad_input(project(change), says, remedy)


@pytest.mark.parametrize(
    ("gone", "says"), [("video/clip.mp4", "no video in video/"), (f"ann/{JSON}", "no ann/")]
)
def test_what_is_alone(project, check_bad_input, tmp_path, gone, says):
    project()
    (tmp_path / "ds0/ann/other.mp4.json").write_text("{}")
    (tmp_path / "ds0" / gone).unlink()
    check_bad_input(tmp_path, ("ds0", "1 videos" if "ann" in gone else "2 videos"), "remove what is alone")


def test_damaged_json(project, check_bad_input):
    check_bad_input(project(text="{"), (JSON, "cannot be read as JSON"), "write the file anew")
