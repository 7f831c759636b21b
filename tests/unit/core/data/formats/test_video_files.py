from __future__ import annotations

import logging

import av
import numpy as np
import pytest

from sam2vt.core.data.formats import load_records, recognise
from sam2vt.core.data.formats.video_files import _find_masks
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import find_object_ids
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.errors import DataError


@pytest.fixture
def video():
    def write(path, num_frames=4):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, (np.full((24, 32, 3), 20 * i, np.uint8) for i in range(num_frames)), 10)

    return write


@pytest.mark.parametrize("folder", ["a", "Annotations/a", "masks/a", "a_masks", "elsewhere"])
def test_masks_of_one_video_are_found(tmp_path, video, mask, folder):
    video(tmp_path / "a.mp4")
    for i in range(4):
        mask(tmp_path / folder / f"{i:05d}.png")
    (record,) = load_records("auto", tmp_path)
    assert (record.video_id, record.video_path) == ("a", str(tmp_path / "a.mp4"))
    assert (record.num_frames, record.height, record.width) == (4, 24, 32)
    assert record.annotated_frames == [0, 1, 2, 3]
    assert load_records("video", tmp_path / "a.mp4") == [record]


@pytest.mark.parametrize("ending", [".m2ts", ".mts", ".3gp", ".3g2", ".vob", ".asf", ".h264", ".hevc"])
def test_endings_that_are_read(tmp_path, mask, ending):
    codec = {".asf": "wmv2", ".vob": "mpeg2video", ".hevc": "libx265"}.get(ending, "libx264")
    container = {".m2ts": "mpegts", ".mts": "mpegts", ".vob": "vob"}.get(ending)
    with av.open(str(tmp_path / f"a{ending}"), "w", format=container) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(8):
            pixels = np.full((48, 64, 3), 30 * i, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    mask(tmp_path / "a/3.png", size=(48, 64))
    (record,) = load_records("auto", tmp_path)
    assert record.num_frames == 8
    found = [float(each.mean()) for each in read_frames(record, [6, 0, 3])]
    assert found == pytest.approx([180, 0, 90], abs=3)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("a", True),
        ("Annotations/a", True),
        ("masks", True),
        ("masks/other", True),
        ("b", False),
        (None, False),
    ],
)
def test_whether_there_are_masks(tmp_path, video, mask, folder, expected):
    video(tmp_path / "a.mp4")
    if folder is not None:
        mask(tmp_path / folder / "0.png")
    assert recognise("auto", str(tmp_path)).has_masks() is expected
    # Beside a file that is named there may be anything; its name tells.
    named = folder in ("a", "Annotations/a")
    assert recognise("auto", str(tmp_path / "a.mp4")).has_masks() is named


class Looked(dict):
    """Folders of masks that are looked up, not gone through: thousands of videos have as many."""

    def __iter__(self):
        raise AssertionError("all folders were gone through for one video")

    keys = values = items = __iter__


@pytest.mark.parametrize(
    ("video_name", "folder"),
    [("cat", "cat"), ("dog", "dog_masks"), ("cat_2_b", "cat_2"), ("cat.b", "cat"), ("catalogue", None)],
)
def test_masks_of_a_video_are_looked_up(video_name, folder):
    named = Looked({name: name for name in ("cat", "cat_2", "dog_masks", "", "other")})
    assert _find_masks(f"/x/{video_name}.mp4", named) == folder


def test_several_videos_are_paired_by_name(tmp_path, video, mask):
    for name, folder in (("cat_v2", "cat"), ("cat_big", "cat_big"), ("dog", "dog")):
        video(tmp_path / f"{name}.mp4")
        mask(tmp_path / folder / "0002.png")
    records = load_records("auto", tmp_path)
    paired = {record.video_id: record.annotations[2].path.split("/")[-2] for record in records}
    assert paired == {"cat_v2": "cat", "cat_big": "cat_big", "dog": "dog"}


def test_fewer_masks_than_frames_go_by_their_numbers(tmp_path, video, mask):
    video(tmp_path / "a.mp4", 6)
    for i in (0, 5):
        mask(tmp_path / f"a/{i}.png")
    assert load_records("auto", tmp_path)[0].annotated_frames == [0, 5]
    mask(tmp_path / "a/6.png")
    with pytest.raises(
        DataError, match=r"1 of 3 masks are named for no frame of it: 6; .*a\.mp4 has 6 frames"
    ):
        load_records("auto", tmp_path)


@pytest.mark.parametrize(
    ("numbers", "frames", "is_said"),
    [((1, 6), [0, 5], False), ((2, 4), [2, 4], True), ((0, 4), [0, 4], False)],
)
def test_numbers_of_masks_count_from_1_where_they_end_so(
    tmp_path, video, mask, caplog, numbers, frames, is_said
):
    video(tmp_path / "a.mp4", 6)
    for i in numbers:
        mask(tmp_path / f"a/{i}.png")
    with caplog.at_level(logging.INFO, "sam2vt"):
        assert load_records("auto", tmp_path)[0].annotated_frames == frames
    assert any("2 is frame 2 of" in text and "counted from 0" in text for text in caplog.messages) == is_said


@pytest.mark.parametrize("numbers", [(1, 5, 9), (1, 3), (1,)])
def test_numbers_that_may_count_from_0_or_1_are_refused(tmp_path, video, mask, check_bad_input, numbers):
    video(tmp_path / "a.mp4", 12)
    for i in numbers:
        mask(tmp_path / f"a/{i:05d}.png")
    says = ("/a:", "00001", "from 0 or from 1 is not clear", "a.mp4 has 12 frames")
    check_bad_input(tmp_path, says, "begin at 0 or end at 12: rename masks")


@pytest.mark.parametrize("names", [("0.0", "0.04", "0.08"), ("t-2", "t-1", "t0"), ("-2", "0")])
def test_times_are_no_numbers_of_frames(tmp_path, video, mask, check_bad_input, names):
    video(tmp_path / "a.mp4", 12)
    for name in names:
        mask(tmp_path / f"a/{name}.png")
    check_bad_input(
        tmp_path, ("named for no frame of it", names[0]), "whose number is the frame's index, 0 to 11"
    )


def test_as_many_masks_as_frames_go_in_order(tmp_path, video, mask):
    video(tmp_path / "a.mp4", 3)
    for i in (1, 2, 3):
        mask(tmp_path / f"a/{i}.png")
    (record,) = load_records("auto", tmp_path)
    assert [record.annotations[i].path[-5] for i in range(3)] == ["1", "2", "3"]


def test_objects_in_subfolders(tmp_path, video, mask):
    video(tmp_path / "a.mp4")
    mask(tmp_path / "a/4/0000.png")
    mask(tmp_path / "a/9/0003.png")
    (record,) = load_records("auto", tmp_path)
    assert (record.object_ids, record.annotated_frames) == ((4, 9), [0, 3])


def test_missing_partners_are_named(tmp_path, video, mask):
    video(tmp_path / "a.mp4")
    video(tmp_path / "b.mp4")
    mask(tmp_path / "a/0.png")
    with pytest.raises(DataError, match=r"1 of 2 video files have no folder of masks: b\.mp4; .*found a$"):
        load_records("auto", tmp_path)
    (tmp_path / "b.xml").touch()
    with pytest.raises(
        DataError, match=r"found a; b\.xml: CVAT's XML is read as annotations\.xml in a folder"
    ):
        load_records("auto", tmp_path)
    mask(tmp_path / "b/0.png")
    mask(tmp_path / "c/0.png")
    with pytest.raises(DataError, match=r"1 folders of masks belong to no video file: c;"):
        load_records("auto", tmp_path)


def test_two_videos_never_share_masks(tmp_path, video, mask):
    video(tmp_path / "a_1.mp4")
    video(tmp_path / "a_2.mp4")
    mask(tmp_path / "a/0.png")
    with pytest.raises(DataError, match=r"share this folder of masks: a_1\.mp4, a_2\.mp4"):
        load_records("auto", tmp_path)


def test_real_video_beside_its_masks(shared_data):
    (record,) = load_records("auto", shared_data / "davis17_schoolgirls_mp4")
    assert record.video_path.endswith("schoolgirls_orig.mp4")
    assert (record.num_frames, record.height, record.width) == (80, 240, 432)
    assert record.annotated_frames == list(range(80))
    assert find_object_ids(record) == (1, 2, 3, 4, 5, 6, 7)


def test_real_video_instead_of_its_frames(shared_data):
    (record,) = load_records("auto", shared_data / "pumavos_chair" / "chair.mp4")
    assert (record.video_id, record.num_frames, len(record.annotations)) == ("chair", 60, 60)
