"""CVAT for video: tracks of masks and polygons in an XML."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.core.data.writing.encoding import write_video
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


def meta(mode="interpolation", start=0, stop=NUM_FRAMES - 1, step="", jobs=(), kind="task"):
    """<meta> of an export, as far as it is read."""
    segments = "".join(f"<segment><start>{a}</start><stop>{b}</stop></segment>" for a, b in jobs)
    fields = (
        f"<id>7</id><mode>{mode}</mode><start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{step}</frame_filter><segments>{segments}</segments>"
    )
    return f"<meta><{kind}>{fields}</{kind}><dumped>2026-01-01</dumped></meta>"


def xml(tracks=TRACKS, head="", about=None):
    body = "\n".join(tracks)
    start = f'<?xml version="1.0" encoding="utf-8"?>\n{head}<annotations><version>1.1</version>'
    return f"{start}{meta() if about is None else about}{body}</annotations>"


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
    assert record.object_names == {1: "car", 5: "bike"}
    assert [sorted(load_masks(record, i)) for i in range(NUM_FRAMES)] == [[1], [1, 5], [1, 5], [5]]
    expected = np.zeros(SIZE, bool)
    expected[5:7, 10:13] = BOX
    assert np.array_equal(load_masks(record, 1)[5], expected)
    polygon = coco_mask.frPyObjects([[4, 4, 20, 4, 20, 16, 4, 16]], *SIZE)
    assert np.array_equal(load_masks(record, 0)[1], coco_mask.decode(coco_mask.merge(polygon)).astype(bool))
    assert decode_record(encode_record(record)) == record


def test_a_box_that_is_outside_is_no_shape(cvat):
    box = '<box frame="2" outside="1" xtl="1" ytl="1" xbr="2" ybr="2"></box>'
    (record,) = load_records("auto", cvat(xml([track(0, [shape("mask", 0), box])])))
    assert [sorted(load_masks(record, i)) for i in range(NUM_FRAMES)] == [[1], [], [], []]


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
    about = meta(stop=30, step="step=10")
    root = cvat(xml([track(0, [shape("polygon", 10)])], about=about))
    for path in sorted((root / "images").iterdir()):
        path.rename(path.with_name(f"frame_{10 * int(path.stem[-6:]):06d}.PNG"))
    (record,) = load_records("auto", root)
    assert sorted(load_masks(record, 1)) == [1]
    assert not load_masks(record, 0)


@pytest.fixture
def task(tmp_path, frame):
    """A task whose images are named `names`, or whose video has so many frames, with a mask on `shown`."""

    def write(frames, shown, about):
        tracks = [track(0, [shape("mask", number) for number in shown])]
        (tmp_path / "annotations.xml").write_text(xml(tracks, about=about))
        if isinstance(frames, int):
            write_video(tmp_path / "clip.mp4", [np.zeros((*SIZE, 3), np.uint8)] * frames, fps=5)
        else:
            for name in frames:
                frame(tmp_path / "images" / name)
        return tmp_path

    return write


IMAGES = [f"frame_{i:06d}.png" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("frames", "shown", "about", "annotated", "visible"),
    [
        (["a_1.png", "a_2.png", "a_3.png"], (1, 2), meta("annotation", 0, 2), (0, 1, 2), (1, 2)),
        (["b.png", "c.png", "a.png"], (0,), meta("annotation", 0, 2), (0, 1, 2), (0,)),
        (IMAGES, (2,), meta("annotation", 0, 2), (0, 1, 2), (2,)),
        (IMAGES, (2,), meta("interpolation", 1, 3), (0, 1, 2), (1,)),
        (IMAGES, (2,), "", (0, 1, 2), (1,)),
        (["x7.png", "x8.png", "x9.png"], (14,), meta("annotation", 10, 18, "step=4"), (0, 1, 2), (1,)),
        (["1.png", "2.png", "10.png"], (8,), meta("interpolation", 0, 8, "step=4"), (0, 1, 2), (2,)),
        (IMAGES, (2,), meta("interpolation", 2, 3, kind="job"), (1, 2), (1,)),
        (12, (0, 4), meta(stop=11, step="step=4"), (0, 4, 8), (0, 4)),
        (12, (7,), meta(start=3, stop=9, step="step=2"), (3, 5, 7, 9), (7,)),
        (12, (7,), meta(start=5, stop=8, jobs=[(1, 3)], kind="job"), (5, 6, 7, 8), (7,)),
        (12, (1, 9), meta(start=1, stop=9, step="step=2", jobs=[(0, 1), (4, 4)]), (1, 3, 9), (1, 9)),
        (3, (1,), "", (0, 1, 2), (1,)),
    ],
)  # fmt: skip
def test_frames_of_the_task_are_annotated(task, frames, shown, about, annotated, visible):
    (record,) = load_records("auto", task(frames, shown, about))
    assert tuple(record.annotated_frames) == annotated
    assert tuple(i for i in annotated if load_masks(record, i)) == visible


@pytest.mark.parametrize(
    ("frames", "shown", "about", "says", "remedy"),
    [
        (["1.png", "2.png"], (1,), "", ("2 images, such as 1.png", "does not tell"), "export it with its"),
        (["1.png"], (1,), meta("annotation"), ("1 images", "has 4: frames 0 to 3"), "restore deleted"),
        (["1.png", "2.png", "10.png"], (1,), meta("annotation", 0, 2), ("1.png, 10.png",), "as COCO 1.0"),
        (["frame_000001.png", "frame_000001.jpg"], (1,), meta(), ("of the same frame",), "remove one"),
        (IMAGES, (1,), meta(stop=2), ("numbered 1 to 3", "frames 0 to 2"), "or rename them"),
        (4, (1,), meta("annotation"), ("made of images",), "export the task with its images"),
        (9, (5,), meta(stop=8, step="step=4"), ("frame 5 has a shape", "in steps of 4"), "task again"),
        (9, (5,), meta(stop=8, jobs=[(0, 4)]), ("frame 5 has a shape", "in jobs of 0 to 4"), "task again"),
        (4, (1,), meta(stop="x"), ("stop_frame is 'x'",), "export the task again"),
        (4, (1,), meta(start=5), ("start_frame 5 is after stop_frame 3",), "export the task again"),
        (4, (1,), meta(jobs=[(0, "")]), ("stop is ''",), "export the task again"),
    ],
)  # fmt: skip
def test_frames_that_are_not_clear(task, check_bad_input, frames, shown, about, says, remedy):
    check_bad_input(task(frames, shown, about), says, remedy)


def project(numbers):
    tasks = "".join(f"<task><id>{number}</id><mode>interpolation</mode></task>" for number in numbers)
    return f"<meta><project><id>1</id><tasks>{tasks}</tasks></project></meta>"


def test_a_project_is_read_with_a_single_task_only(task, cvat, check_bad_input):
    of_tasks = [
        TRACKS[0].replace("<track", '<track task_id="7"'),
        TRACKS[1].replace("<track", '<track task_id="8"'),
    ]
    for tracks, about in ((TRACKS, project([7, 8])), (of_tasks, project([7])), (of_tasks, "")):
        check_bad_input(
            cvat(xml(tracks, about=about)), ("2 tasks of a project (7, 8)",), "export each task alone"
        )
    (record,) = load_records("auto", cvat(xml(of_tasks[:1], about=project([7]))))
    assert record.annotated_frames == [0, 1, 2, 3]


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
        (
            xml([track(3, [shape("mask", 0), '<box frame="2" outside="0" xtl="1"/>'])]),
            ("track 3 (car), frame 2", "is a box"),
            "mark the object as outside",
        ),
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
    """Pieces cut, doubled and replaced; further formats are changed in `test_fuzz.py`."""
    root, text = cvat(), xml()
    path, outcomes = root / "annotations.xml", {"read": 0, "refused": 0}

    @settings(
        max_examples=1000,
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
