"""SA-V videos with their masklet files, and what may be wrong with them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import find_object_ids, load_masks, load_void
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.errors import DataError

SIZE, NUM_FRAMES = (32, 48), 9


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def square(left):
    mask = np.zeros(SIZE, bool)
    mask[8:20, left : left + 10] = True
    return mask


def content(num_masklets=2, places=3, **changes):
    """Masklets that move by 4 pixels from one annotated frame to the next; the second is absent at first."""
    frames = [
        [rle(square(4 * t + 12 * m) if (t or not m) else np.zeros(SIZE, bool)) for m in range(num_masklets)]
        for t in range(places)
    ]
    fields = {
        "video_id": "clip",
        "video_frame_count": float(NUM_FRAMES),
        "video_height": float(SIZE[0]),
        "video_width": float(SIZE[1]),
        "masklet": frames,
        "masklet_id": list(range(num_masklets)),
    }
    return {**fields, **changes}


def write_clip(folder, name="clip"):
    folder.mkdir(parents=True, exist_ok=True)
    write_video(
        folder / f"{name}.mp4", [np.full((*SIZE, 3), 9 * i, np.uint8) for i in range(NUM_FRAMES)], fps=24
    )


@pytest.fixture
def sav(tmp_path):
    """A video with both files; `change` edits the manual one's content before it is written."""

    def write(change=None, folder=tmp_path):
        write_clip(folder)
        manual, auto = content(), content(1)
        if change:
            change(manual)
        (folder / "clip_manual.json").write_text(json.dumps(manual))
        (folder / "clip_auto.json").write_text(json.dumps(auto))
        return folder

    return write


def test_both_files_are_one_video(sav):
    (record,) = load_records("auto", sav())
    assert (record.video_id, record.num_frames, record.height, record.width) == ("clip", NUM_FRAMES, *SIZE)
    assert list(record.annotations) == [0, 4, 8]
    assert record.object_ids == (1, 2, 3)
    assert record.object_names == {1: "manual 0", 2: "manual 1", 3: "auto 0"}
    first, second = load_masks(record, 0), load_masks(record, 4)
    assert sorted(first) == [1, 3]  # the second masklet is known to be absent
    assert sorted(second) == [1, 2, 3]
    assert np.array_equal(second[2], square(16))
    assert find_object_ids(record) == (1, 2, 3)
    assert load_void(record, 0) is None


def test_it_survives_a_record_table(sav):
    (record,) = load_records("video", sav())
    assert decode_record(encode_record(record)) == record


def test_one_level_below_and_a_single_file(sav, tmp_path):
    for name in ("sav_000", "sav_001"):
        sav(folder=tmp_path / name)
    (tmp_path / "sav_001/clip.mp4").rename(tmp_path / "sav_001/other.mp4")
    for ending in ("manual", "auto"):
        (tmp_path / f"sav_001/clip_{ending}.json").rename(tmp_path / f"sav_001/other_{ending}.json")
    assert [record.video_id for record in load_records("auto", tmp_path)] == ["clip", "other"]
    (alone,) = load_records("auto", tmp_path / "sav_000" / "clip_auto.json")
    assert alone.object_ids == (1,)


def test_every_frame_annotated(tmp_path):
    write_clip(tmp_path)
    (tmp_path / "clip_manual.json").write_text(json.dumps(content(places=NUM_FRAMES)))
    (record,) = load_records("auto", tmp_path)
    assert list(record.annotations) == list(range(NUM_FRAMES))


def test_real_masklets_equal_pycocotools(shared_data, tmp_path):
    """The real video is not at hand: one of its length and size stands in."""
    for kind in ("manual", "auto"):
        name = f"sav_000001_{kind}.json"
        (tmp_path / name).write_text((shared_data / "sav_json_only" / name).read_text())
    write_video(tmp_path / "sav_000001.mp4", (np.zeros((848, 480, 3), np.uint8) for _ in range(483)), fps=24)
    (record,) = load_records("auto", tmp_path)
    assert list(record.annotations) == list(range(0, 483, 4))
    assert len(record.object_ids) == 5 + 9
    files = [json.loads((tmp_path / f"sav_000001_{kind}.json").read_text()) for kind in ("manual", "auto")]
    for place in (0, 60, 120):
        expected = [coco_mask.decode(each).astype(bool) for file in files for each in file["masklet"][place]]
        masks = load_masks(record, 4 * place)
        for object_id, mask in enumerate(expected, start=1):
            assert np.array_equal(masks.get(object_id, np.zeros_like(mask)), mask)


def test_real_masklets_without_their_video(shared_data):
    with pytest.raises(
        DataError, match=r"1 of 1 masklet files have no video .*sav_000001\.mp4; put the videos"
    ):
        load_records("auto", shared_data / "sav_json_only")


def drop(name):
    return lambda data: data.pop(name)


def put(name, value):
    return lambda data: data.update({name: value})


def in_frame(place, value):
    return lambda data: data["masklet"].__setitem__(place, value)


def in_mask(place, number, **fields):
    return lambda data: data["masklet"][place][number].update(fields)


MANUAL = "clip_manual.json"


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (drop("masklet_id"), (MANUAL, "masklet_id is 'None'"), "must list the different numbers"),
        (put("masklet_id", [0, 0]), (MANUAL, "masklet_id is '[0, 0]'"), "different numbers"),
        (put("masklet_id", [0]), (MANUAL, "masklet[0] has 2 masks", "names 1"), "an empty one where"),
        (put("masklet_id", [0, 2**60]), (MANUAL, "masklet_id is '[0, 1152"), f"from 0 to {2**53}"),
        (put("masklet", []), (MANUAL, "masklet is '[]'"), "must list the masks of each annotated frame"),
        (put("masklet", 7), (MANUAL, "masklet is '7'"), "must list the masks"),
        (in_frame(1, None), (MANUAL, "masklet[1]", "None"), "every annotated frame needs a mask a masklet"),
        (in_frame(2, [1, 2]), (MANUAL, "masklet[2], masklet 0 is '1'"), "allowed is an RLE"),
        (put("video_frame_count", 7.5), (MANUAL, "video_frame_count is '7.5'"), "a whole number"),
        (put("video_frame_count", 1e300), (MANUAL, "video_frame_count is '1e+300'"), f"from 1 to {2**53}"),
        (put("video_height", "x"), (MANUAL, "video_height is 'x'"), "a whole number from 1"),
        (put("video_frame_count", 12), (MANUAL, "12 frames", "clip.mp4 has 9"), "it is another video"),
        (put("video_width", 64), (MANUAL, "64x32", "48x32"), "it is another video"),
        (lambda d: d["masklet"].pop(), ("clip_auto.json", "3 frames"), "must annotate the same frames"),
        (in_mask(1, 0, counts="7"), (MANUAL, "frame 4", "object 1", "sum to 7"), "annotation again"),
        (in_mask(1, 0, counts="\\u20ac"), (MANUAL, "frame 4", "object 1"), "compressed string"),
        (in_mask(2, 1, size=[9, 9]), (MANUAL, "frame 8", "object 2", "[9, 9]"), "write masks at the size"),
        (in_mask(2, 1, counts=[-5, 5]), (MANUAL, "frame 8", "object 2", "negative"), "counts must be >= 0"),
        (in_mask(2, 1, counts=[2**60]), (MANUAL, "frame 8", "larger than any image"), "allowed are"),
    ],
)  # fmt: skip
def test_bad_masklets(sav, check_bad_input, change, says, remedy):
    check_bad_input(sav(change), says, remedy)


def test_a_count_without_end(sav, check_bad_input):
    """JSON allows 1e999, which is read as infinite."""
    root = sav(put("video_frame_count", 1234))
    path = root / MANUAL
    path.write_text(path.read_text().replace("1234", "1e999"))
    check_bad_input(root, (MANUAL, "video_frame_count is 'inf'"), "a whole number from 1")


def test_a_bad_mask_names_its_own_file(sav, check_bad_input):
    root = sav()
    auto = content(1)
    auto["masklet"][0][0]["counts"] = "0"
    (root / "clip_auto.json").write_text(json.dumps(auto))
    check_bad_input(root, ("clip_auto.json", "frame 0", "object 3"), "export the annotation again")


def test_both_files_of_other_strides(sav, check_bad_input):
    root = sav()
    for kind, number in (("manual", 2), ("auto", 1)):
        (root / f"clip_{kind}.json").write_text(json.dumps(content(number, places=7)))
    check_bad_input(root, (MANUAL, "annotates 7 frames", "9 frames"), "every n-th frame needs masks")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read as JSON"),
        ('{"masklet": [NaN]}', "NaN is no number"),
        ('{"masklet": [], "masklet": []}', "'masklet' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"masklets": []}', "is no SA-V masklet file"),
    ],
)
def test_files_that_are_no_masklets(sav, check_bad_input, text, says):
    root = sav()
    (root / MANUAL).write_text(text)
    check_bad_input(root, (MANUAL, says), "")


def test_a_file_that_is_no_text(sav, check_bad_input):
    root = sav()
    (root / MANUAL).write_bytes(b"\xff\xfe\x00masklet")
    check_bad_input(root, (MANUAL, "not UTF-8"), "write the file anew")


def test_a_video_of_two_folders(sav, tmp_path, check_bad_input):
    for name in ("a", "b"):
        sav(folder=tmp_path / name)
    check_bad_input(tmp_path, ("two videos have the id clip", "a/clip.mp4", "b/clip.mp4"), "rename one")


def test_a_file_that_changed_since(sav):
    root = sav()
    (record,) = load_records("auto", root)
    (root / MANUAL).write_text(json.dumps(content(places=1)))
    with pytest.raises(DataError, match=re.escape("annotates 1 frames, not the one of place 2")):
        load_masks(record, 8)
