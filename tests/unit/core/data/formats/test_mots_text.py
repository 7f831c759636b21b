"""MOTS text: a line per object and frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks, load_void
from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.errors import DataError

HEIGHT, WIDTH = 24, 32


def mask_of(left):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:12, left : left + 6] = True
    return mask


def line(number, key, left, kind=None, size=(HEIGHT, WIDTH)):
    counts = encode_mask(mask_of(left))["counts"].decode()
    return f"{number} {key} {key // 1000 if kind is None else kind} {size[0]} {size[1]} {counts}"


LINES = [line(1, 1001, 0), line(1, 2004, 8), line(1, 10000, 16), line(3, 1001, 2)]


@pytest.fixture
def mots(tmp_path, frame):
    """A sequence of three frames, the second of which has no line."""

    def write(lines=LINES, text="seq/gt/gt.txt", frames="seq/img1", first=1):
        for i in range(3):
            frame(tmp_path / frames / f"{i + first:06d}.jpg")
        (tmp_path / text).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / text).write_text("\n".join(lines) + "\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("seq/gt/gt.txt", "seq/img1"),
        ("instances_txt/seq.txt", "images/seq"),
        ("instances_txt/seq.txt", "training/image_02/seq"),
    ],
)
def test_lines_are_masks(mots, text, frames):
    (record,) = load_records("auto", mots(text=text, frames=frames))
    assert (record.video_id, record.num_frames, sorted(record.annotations)) == ("seq", 3, [0, 2])
    assert record.object_names == {1001: "car", 2004: "pedestrian"}
    masks = load_masks(record, 0)
    assert {key: np.array_equal(mask, mask_of(left)) for (key, mask), left in zip(masks.items(), (0, 8))} == {
        1001: True,
        2004: True,
    }
    assert np.array_equal(load_void(record, 0), mask_of(16))
    assert load_void(record, 2) is None
    assert decode_record(encode_record(record)) == record


def test_frames_count_from_their_own_numbers(mots):
    (record,) = load_records("auto", mots([line(0, 1001, 0)], first=0) / "seq")
    assert sorted(record.annotations) == [0]


def test_frames_are_in_order_of_their_numbers(mots, frame, check_bad_input):
    root = mots([line(9, 1001, 0), line(11, 1001, 8)])
    for i in range(1, 4):
        (root / f"seq/img1/{i:06d}.jpg").rename(root / f"seq/img1/f_{8 + i}.jpg")
    (record,) = load_records("auto", root)
    assert [path.rsplit("/", 1)[1] for path in record.frame_paths] == ["f_9.jpg", "f_10.jpg", "f_11.jpg"]
    assert np.array_equal(load_masks(record, 2)[1001], mask_of(8))
    for i, name in ((9, "a2_001"), (10, "a1_002"), (11, "a3_003")):
        (root / f"seq/img1/f_{i}.jpg").rename(root / f"seq/img1/{name}.jpg")
    check_bad_input(root, ("img1", "a1_002", "a2_001"), "Rename the frames")


@pytest.mark.parametrize(
    ("lines", "says", "remedy"),
    [
        (["1,1,912,484,97,109,0,7,1"], ("gt.txt: line 1", "MOTChallenge"), "get its MOTS set"),
        ([*LINES, "1 2"], ("gt.txt: line 5", "six fields"), "frame, id, class"),
        ([line(9, 1001, 0)], ("line 1", "frame 9 has no image"), "add it"),
        ([line(1, 1001, 0, size=(9, 9))], ("line 1", "9x9", "32x24"), "use the frames"),
        ([line(1, 10000, 0)], ("gt.txt", "no line shows an object"), "annotate one"),
        (["1 1001 1 24 32 0"], ("frame 0, object 1001", "RLE counts"), "export the annotation again"),
    ],
)
def test_bad_lines(mots, check_bad_input, lines, says, remedy):
    check_bad_input(mots(lines), says, remedy)


def test_an_object_with_two_lines_on_a_frame_is_told(mots, caplog):
    (record,) = load_records("auto", mots([*LINES, line(1, 1001, 20)]))
    assert "1 times an object has several annotations on a frame, first object 1001 on frame 0" in caplog.text
    assert load_masks(record, 0)[1001].sum() == 2 * mask_of(0).sum()


def test_frames_without_numbers(mots, frame, check_bad_input):
    root = mots()
    frame(root / "seq/img1/first.jpg")
    check_bad_input(root, ("img1", "not told apart"), "rename them")


def test_any_text(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "img1").mkdir()
    (root / "gt").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "img1/1.png")
    fields = st.sampled_from(["0", "1", "10", "24", "32", "-1", "9" * 30, "x", "", "٣"])
    counts = st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=12)
    texts = st.lists(fields | counts, min_size=4, max_size=7).map(" ".join) | st.text(max_size=20)

    @settings(max_examples=150, derandomize=True, database=None, deadline=None)
    @given(st.lists(texts | st.just(LINES[0]), max_size=3))
    def read(lines):
        (root / "gt/gt.txt").write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
        refusal = str(root)
        try:
            for record in load_records("mots", root):
                assert all(mask.shape == (HEIGHT, WIDTH) for mask in load_masks(record, 0).values())
        except DataError as error:
            refusal = str(error)
        assert str(root) in refusal

    read()
