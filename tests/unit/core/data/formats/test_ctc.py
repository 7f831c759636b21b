"""Cell Tracking Challenge: outlines get their identity from the markers of tracks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import known_objects, load_masks, load_void
from sam2vt.core.data.records.serialization import decode_record, encode_record

SIZE, NUM_FRAMES = (24, 32), 4
LEFT, RIGHT, LOWER = np.s_[2:10, 2:10], np.s_[2:10, 20:28], np.s_[14:22, 8:16]
TRACKS = "1 0 3 0\n2 0 1 0\n3 2 3 2\n"


def write(path, regions, dtype=np.uint16, size=SIZE, base=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, base, dtype)
    for region, value in regions:
        pixels[region] = value
    Image.fromarray(pixels).save(path)


def centre(region):
    rows, columns = region
    return np.s_[rows.start + 3 : rows.start + 5, columns.start + 3 : columns.start + 5]


@pytest.fixture
def ctc(tmp_path):
    """Four frames; outlines on frames 0 and 2, whose numbers are none of the tracks'."""

    def sequence(dtype=np.uint16, truth="GT"):
        gray = 100 if dtype == np.uint8 else 1000
        for i in range(NUM_FRAMES):
            cells = [(LEFT, gray + 50), (RIGHT, gray + 100)]
            write(tmp_path / f"01/t{i:03d}.tif", cells, dtype, base=gray)
            marks = [(centre(LEFT), 1), (centre(RIGHT), 2 if i < 2 else 3)]
            write(tmp_path / f"01_GT/TRA/man_track{i:03d}.tif", marks)
        for i in (0, 2):
            write(tmp_path / f"01_{truth}/SEG/man_seg{i:03d}.tif", [(LEFT, 40), (RIGHT, 41), (LOWER, 42)])
        (tmp_path / "01_GT/TRA/man_track.txt").write_text(TRACKS)
        return tmp_path

    return sequence


@pytest.mark.parametrize("truth", ["GT", "ST"])
def test_outlines_take_the_number_of_their_marker(ctc, truth):
    (record,) = load_records("auto", ctc(truth=truth))
    assert (record.video_id, record.num_frames, record.object_ids) == ("01", NUM_FRAMES, (1, 2, 3))
    assert sorted(record.annotations) == [0, 2]
    assert record.parents == {3: 2}
    for frame, right in ((0, 2), (2, 3)):
        masks = load_masks(record, frame)
        assert sorted(masks) == [1, right]
        for key, region in ((1, LEFT), (right, RIGHT)):
            expected = np.zeros(SIZE, bool)
            expected[region] = True
            assert np.array_equal(masks[key], expected)
        assert load_void(record, frame)[LOWER].all()  # an outline without a marker
        assert known_objects(record, frame) == {1, 2, 3}
    assert decode_record(encode_record(record)) == record


def test_frames_of_16_bits_are_scaled_alike(ctc):
    (record,) = load_records("auto", ctc())
    assert record.intensity_range is not None
    low, high = record.intensity_range
    assert (low, high) == (1000.0, 1100.0)
    frames = read_frames(record, range(NUM_FRAMES))
    assert frames[0][0, 0].tolist() == [0, 0, 0]
    assert frames[0][4, 22].tolist() == [255, 255, 255]
    assert frames[0][4, 4].tolist() == [128, 128, 128]


def test_frames_of_8_bits_stay_as_they_are(ctc):
    (record,) = load_records("ctc", ctc(np.uint8))
    assert record.intensity_range is None
    assert read_frames(record, [0])[0, 0, 0].tolist() == [100, 100, 100]


def test_a_cell_with_a_marker_and_no_outline_is_not_known(ctc):
    root = ctc()
    write(root / "01_GT/SEG/man_seg000.tif", [(LEFT, 40)])
    (record,) = load_records("auto", root / "01")
    assert sorted(load_masks(record, 0)) == [1]
    assert known_objects(record, 0) == {1, 3}


def tracks(text):
    return lambda root: (root / "01_GT/TRA/man_track.txt").write_text(text)


def put(name, *arguments, **options):
    return lambda root: write(root / name, *arguments, **options)


def stack(root):
    slices = [Image.fromarray(np.zeros(SIZE, np.uint16)) for _ in range(3)]
    slices[0].save(root / "01/t001.tif", save_all=True, append_images=slices[1:])


def remove(name):
    return lambda root: (root / name).unlink()


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (remove("01_GT/TRA/man_track.txt"), ("man_track.txt", "cannot be read"), "restore the file"),
        (tracks("1 0 3\n"), ("man_track.txt", "line 1 is '1 0 3'"), "correct it"),
        (tracks("1 0 9 0\n"), ("man_track.txt", "track 1 is on frames 0 to 9"), "correct the line"),
        (tracks("1 0 3 0\n1 0 3 0\n"), ("man_track.txt", "listed twice"), "correct the line"),
        (tracks("1 0 3 7\n"), ("man_track.txt", "track 7 is a parent"), "every track has a line"),
        (tracks(""), ("man_track.txt", "lists no track"), "restore the file"),
        (tracks("1 0 3 0\n"), ("man_track000.tif", "marker 2 has no line"), "add its line"),
        (remove("01/t002.tif"), ("man_seg002.tif", "no image of frame 2"), "restore them or remove"),
        (remove("01_GT/TRA/man_track002.tif"), ("man_seg002.tif", "frame 2"), "its markers"),
        (put("01_GT/SEG/man_seg_001_007.tif", []), ("man_seg_001_007.tif", "3D data"), "project or cut"),
        (put("01/x000.tif", []), ("x000.tif", "unexpected name"), "rename or remove"),
        (put("01/t0001.tif", []), ("two files are of frame 1",), "remove one"),
        (put("01/t003.tif", [], np.uint8), ("t003.tif", "no 16 bit gray image"), "one depth"),
        (put("01_GT/SEG/man_seg002.tif", [], size=(9, 9)), ("man_seg002.tif", "9x9", "frame 2"), "one size"),
        (put("01_GT/TRA/man_track002.tif", [], size=(9, 9)), ("man_track002.tif", "9x9"), "one size"),
        (stack, ("t001.tif", "several images"), "a file of its own"),
    ],
)
def test_bad_sequences(ctc, check_bad_input, change, says, remedy):
    root = ctc()
    change(root)
    check_bad_input(root, says, remedy)


def test_tracks_alone_are_no_masks(ctc, check_bad_input):
    root = ctc()
    (root / "01_GT/SEG").rename(root / "SEG")
    check_bad_input(root, ("sequence 01 has no outlines",), "add one of the folders")
