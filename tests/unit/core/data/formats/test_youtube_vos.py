"""YouTube-VOS: a tree with gaps in its frames' names, and a meta.json that names the objects."""

from __future__ import annotations

import json

import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks


@pytest.fixture
def vos(tmp_path, frame, mask):
    """Every fifth frame, two objects; `change` edits what meta.json says of the video."""

    def write(change=None, above=""):
        root = tmp_path / above
        for number in range(0, 20, 5):
            frame(root / f"JPEGImages/003234/{number:05d}.jpg")
            mask(root / f"Annotations/003234/{number:05d}.png", (1, 2))
        video = {
            "objects": {
                "1": {"category": "penguin", "frames": ["00000", "00005"]},
                "2": {"category": "seal", "frames": ["00000"]},
            }
        }
        data = {"videos": {"003234": video}}
        if change:
            change(data, video["objects"])
        (root / "meta.json").write_text(json.dumps(data))
        return tmp_path

    return write


@pytest.mark.parametrize("above", ["", "train"])
def test_objects_have_names_and_gaps_are_no_gaps(vos, above):
    (record,) = load_records("auto", vos(above=above))
    assert (record.num_frames, list(record.annotations)) == (4, [0, 1, 2, 3])
    assert record.object_ids == (1, 2)
    assert record.object_names == {1: "penguin", 2: "seal"}
    assert sorted(load_masks(record, 3)) == [1, 2]


def test_another_programs_meta_json_is_left_alone(vos):
    (record,) = load_records("auto", vos(lambda data, _: data.pop("videos")))
    assert record.object_ids is None


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (lambda d, o: d.update(videos=[]), ("meta.json", "videos is '[]'"), "must be of type dict"),
        (lambda d, o: d["videos"].clear(), ("meta.json", "003234 is not in it"), "add it, remove"),
        (lambda d, o: o.clear(), ("meta.json", "003234", "objects is empty"), "list the video's objects"),
        (lambda d, o: d["videos"].update({"003234": 5}), ("video 003234", "'5'"), "field objects"),
        (
            lambda d, o: o.update(x={"category": "a"}),
            ("video 003234", "object 'x' is no id"),
            "numbers from 1",
        ),
        (lambda d, o: o.update({"0": {"category": "a"}}), ("object '0' is no id",), "numbers from 1"),
        (lambda d, o: o.update({"1" * 5000: {"category": "a"}}), ("object '111",), "numbers from 1 to 65535"),
        (lambda d, o: o["1"].update(frames=[[1]]), ("object 1", "frames lists '[1]'"), "names of frames"),
        (lambda d, o: o["1"].update(frames=None), ("object 1", "frames is 'None'"), "of type list"),
        (lambda d, o: o["1"].pop("category"), ("object 1", "category is 'None'"), "of type str"),
        (
            lambda d, o: o["1"].update(frames=["7"]),
            ("object 1", "1 of its frames", "7"),
            "restore the frames",
        ),
        (lambda d, o: o.pop("2"), ("00000.png", "object 2", "meta.json does not list"), "correct the mask"),
    ],
)
def test_bad_meta(vos, check_bad_input, change, says, remedy):
    check_bad_input(vos(change), says, remedy)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"videos": NaN}'])
def test_meta_that_cannot_be_read(vos, check_bad_input, text):
    root = vos()
    (root / "meta.json").write_text(text)
    check_bad_input(root, ("meta.json",), "write")
