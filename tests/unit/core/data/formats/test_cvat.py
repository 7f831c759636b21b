"""CVAT for video: tracks of masks and polygons in an XML."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks import load_masks
from sam2vt.core.data.record_coding import decode_record, encode_record
from sam2vt.core.data.video_writing import write_video
from sam2vt.errors import Sam2vtError

SIZE, NUM_FRAMES = (24, 32), 4
POINTS = "4.0,4.0;20.0,4.0;20.0,16.0;4.0,16.0"
BOX = np.array([[0, 1, 1], [1, 1, 0]], bool)  # at left 10, top 5
RLE = "1, 4, 1"


def shape(kind, frame, outside=0, **attributes):
    given = {"points": POINTS} if kind == "polygon" else {}
    if kind == "mask":
        given = {"rle": RLE, "left": 10, "top": 5, "width": 3, "height": 2}
    fields = {"frame": frame, "outside": outside, "keyframe": 1, "occluded": 0, **given, **attributes}
    return (
        f"<{kind} {' '.join(f'{key}={chr(34)}{value}{chr(34)}' for key, value in fields.items())}></{kind}>"
    )


def track(number, shapes, label="car"):
    return f'<track id="{number}" label="{label}" source="manual">{"".join(shapes)}</track>'


TRACKS = [
    track(0, [shape("polygon", frame) for frame in range(3)] + [shape("polygon", 3, outside=1)]),
    track(4, [shape("mask", frame) for frame in (1, 2, 3)], "bike"),
]


def xml(tracks=TRACKS, head=""):
    body = "\n".join(tracks)
    start = f'<?xml version="1.0" encoding="utf-8"?>\n{head}<annotations><version>1.1</version>'
    return f"{start}{body}</annotations>"


@pytest.fixture
def cvat(tmp_path, frame):
    """A task with its images, as an export with images has them."""

    def write(text=None, folder=""):
        root = tmp_path / folder
        for i in range(NUM_FRAMES):
            frame(root / f"images/frame_{i:06d}.PNG")
        (root / "annotations.xml").write_text(xml() if text is None else text)
        return tmp_path

    return write


def test_tracks_are_objects(cvat):
    (record,) = load_records("auto", cvat())
    assert (record.num_frames, record.height, record.width) == (NUM_FRAMES, *SIZE)
    assert record.object_ids == (1, 5)
    assert record.extra["object_names"] == {1: "car", 5: "bike"}
    assert [sorted(load_masks(record, i)) for i in range(NUM_FRAMES)] == [[1], [1, 5], [1, 5], [5]]
    expected = np.zeros(SIZE, bool)
    expected[5:7, 10:13] = BOX
    assert np.array_equal(load_masks(record, 1)[5], expected)
    polygon = coco_mask.frPyObjects([[4, 4, 20, 4, 20, 16, 4, 16]], *SIZE)
    assert np.array_equal(load_masks(record, 0)[1], coco_mask.decode(coco_mask.merge(polygon)).astype(bool))
    assert decode_record(encode_record(record)) == record


def test_several_tasks_and_a_video(cvat, tmp_path):
    cvat(folder="task_1")
    (tmp_path / "task_2").mkdir()
    (tmp_path / "task_2/annotations.xml").write_text(xml())
    write_video(tmp_path / "task_2/clip.mp4", [np.zeros((*SIZE, 3), np.uint8)] * NUM_FRAMES, fps=5)
    first, second = load_records("cvat", tmp_path)
    assert (first.video_id, second.video_id) == ("task_1", "task_2")
    assert second.video_path == str(tmp_path / "task_2/clip.mp4")
    assert np.array_equal(load_masks(first, 2)[5], load_masks(second, 2)[5])
    (alone,) = load_records("auto", tmp_path / "task_2/annotations.xml")
    assert alone.video_id == "task_2"


def test_frames_are_numbered_by_their_names(cvat, tmp_path, frame):
    """A task of every tenth frame."""
    root = cvat(xml([track(0, [shape("polygon", 10)])]))
    for path in sorted((root / "images").iterdir()):
        path.rename(path.with_name(f"frame_{10 * int(path.stem[-6:]):06d}.PNG"))
    (record,) = load_records("auto", root)
    assert sorted(load_masks(record, 1)) == [1]
    assert not load_masks(record, 0)


def one(kind, frame=0, **attributes):
    return xml([track(0, [shape(kind, frame, **attributes)])])


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY file SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        (xml()[:-30], ("annotations.xml", "cannot be read as XML"), "export the task again"),
        ("<annotations/>", ("annotations.xml", "holds no track"), "annotate objects with tracks"),
        (xml(head=BOMB), ("annotations.xml", "entity or document type"), "export the task again"),
        (xml(head=OUTSIDE), ("annotations.xml", "entity or document type"), "export the task again"),
        (xml([track("x", [shape("mask", 0)])]), ("a track: id is 'x'",), "a whole number"),
        (xml([TRACKS[0], TRACKS[0]]), ("track 0 (car)", "another track has this id"), "a track of its own"),
        (xml([track(3, [])]), ("track 3 (car)", "no shape"), "or remove the track"),
        (xml([track(3, ['<box frame="0" xtl="1"/>'])]), ("track 3", "only box shapes"), "draw them in CVAT"),
        (one("mask", "one"), ("track 0", "frame is 'one'"), "a whole number"),
        (one("mask", 9), ("frame 9 has a shape", "has 4 frames, 0 to 3"), "export the task with its images"),
        (one("mask", rle="1, x"), ("track 0", "frame 0", "rle is '1, x'"), "export again"),
        (one("mask", rle="1, 2"), ("frame 0", "object 1", "sum to 3", "2 x 3 = 6"), "export the annotation"),
        (one("mask", left=31), ("frame 0", "object 1", "3x2 at left 31"), "use these"),
        (one("mask", height=0), ("frame 0", "object 1", "3x0"), "use these"),
        (one("mask", width=-3), ("track 0", "width is '-3'"), "a whole number"),
        (one("mask", rle="999999999, 1"), ("frame 0", "sum to 1000000000"), "export the annotation"),
        (one("polygon", points="1,2;3"), ("track 0", "frame 0", "points are '1,2;3'"), "pairs such as"),
        (one("polygon", points="1,2;3,4"), ("frame 0", "polygon 0 has 4 numbers"), "at least 3 points"),
        (one("polygon", points="nan,2;3,4;5,6"), ("frame 0", "x = nan"), "allowed are pixels"),
        (one("polygon", points=""), ("track 0", "points are ''"), "pairs such as"),
    ],
)
def test_bad_annotations(cvat, check_bad_input, text, says, remedy):
    check_bad_input(cvat(text), says, remedy)


def test_what_is_missing_or_too_much(cvat, tmp_path, check_bad_input):
    cvat()
    (tmp_path / "images").rename(tmp_path / "pictures")
    check_bad_input(tmp_path, ("neither images/ nor a video",), "put the one video of the task there")
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, [np.zeros((*SIZE, 3), np.uint8)], fps=5)
    check_bad_input(tmp_path, ("several videos",), "put the one video of the task there")
    for task in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        cvat(folder=f"images/{task}x")
        (tmp_path / f"images/{task}x/images").rename(tmp_path / f"images/{task}")
    check_bad_input(tmp_path, ("several folders hold images",), "export each task alone")


def test_any_xml(cvat):
    """Ten thousand changes: pieces cut, doubled and replaced."""
    root, text = cvat(), xml()
    path, outcomes = root / "annotations.xml", {"read": 0, "refused": 0}

    @settings(
        max_examples=10_000,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        cut=st.tuples(st.integers(0, len(text)), st.integers(0, 12)),
        put=st.one_of(
            st.text(max_size=6), st.sampled_from(["<", '"', "&a;", "<track>", "-1", "9" * 30, "1e400"])
        ),
    )
    def read(cut, put):
        start, length = cut
        path.write_text(text[:start] + put + text[start + length :], errors="surrogatepass")
        refusal = ""
        try:
            for record in load_records("cvat", root):
                for frame in record.annotated_frames:
                    for mask in load_masks(record, frame).values():
                        assert mask.shape == SIZE
                        assert set(np.unique(mask.view(np.uint8))) <= {0, 1}
        except Sam2vtError as error:
            refusal = str(error)
        assert not refusal or str(root) in refusal
        outcomes["refused" if refusal else "read"] += 1

    read()
    assert min(outcomes.values()) > 100, outcomes
