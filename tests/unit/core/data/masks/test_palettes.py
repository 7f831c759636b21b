"""Palettes over a video: indices that change their colour, grounds that are not index 0, masks by colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks import palettes
from sam2vt.core.data.masks.loading import load_masks, load_void
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.errors import ConfigError, DataError

BLACK, RED, GREEN, WHITE = (0, 0, 0), (200, 30, 30), (30, 200, 30), (255, 255, 255)
SIZE = (24, 32)


def write(root: Path, colours: list[list[tuple[int, int, int]]], used: list[tuple[int, ...]]) -> Path:
    """One clip; per frame a palette and the indices that it shows: first the ground, then columns of 4."""
    for t, (palette, indices) in enumerate(zip(colours, used)):
        for folder in ("JPEGImages", "Annotations"):
            (root / folder / "v").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(root / f"JPEGImages/v/{t}.jpg")
        pixels = np.full(SIZE, indices[0], np.uint8)
        for place, index in enumerate(indices[1:]):
            pixels[4:12, 4 * place : 4 * place + 4] = index
        image = Image.fromarray(pixels)
        image.putpalette([value for colour in palette for value in colour])
        image.save(root / f"Annotations/v/{t}.png")
    return root


def read(root: Path, **options):
    (record,) = load_records("auto", root, **options)
    return record, [load_masks(record, frame) for frame in record.annotated_frames]


SWAPPED = [[BLACK, RED, GREEN]] * 3 + [[BLACK, GREEN, RED]] * 3
USED = [(0, 1, 2)] * 3 + [(0, 2, 1)] * 3


def test_an_index_of_another_colour_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, SWAPPED, USED))
    message = str(caught.value)
    says = ("3.png", "index 1", "(30, 200, 30) on frame 3", "(200, 30, 30) on frame 0", "video v", "palette")
    assert all(each in message for each in says)
    assert caught.value.place["frame"] == 3


def test_any_later_frame_alone_tells_the_same(tmp_path):
    (record,) = load_records("auto", write(tmp_path, SWAPPED, USED))
    messages = set()
    for frame in (5, 3, 4):
        with pytest.raises(DataError) as caught:
            load_masks(record, frame)
        messages.add(str(caught.value))
    assert len(messages) == 1
    faults = VideoCheck()(record).faults
    assert [fault.frame for fault in faults] == [3]


def test_by_colour_an_object_keeps_its_pixels(tmp_path):
    record, masks = read(write(tmp_path, SWAPPED, USED), colours="palette")
    assert all(sorted(each) == [1, 2] for each in masks)
    assert all(np.array_equal(each[1], masks[0][1]) for each in masks)
    assert decode_record(encode_record(record)) == record


PASSES = {
    "davis": ([[BLACK, RED, GREEN, WHITE]] * 2, [(0, 1, 2), (0, 1)]),
    "trimmed": ([[BLACK, RED], [BLACK, RED, GREEN], [BLACK, RED]], [(0, 1), (0, 1, 2), (0, 1)]),
    "unused index": ([[BLACK, RED, WHITE], [BLACK, RED, GREEN]], [(0, 1), (0, 1, 2)]),
    "unused ground": ([[BLACK, RED], [GREEN, RED]], [(0, 1), (1,)]),
    "white ground": ([[WHITE, RED, GREEN]] * 2, [(0, 1, 2)] * 2),
    "padded with black": ([[WHITE, RED, BLACK, BLACK]] * 2, [(0, 1)] * 2),
    "gray ramp": ([[(i, i, i) for i in range(256)], [BLACK, RED]], [(0, 1), (0, 1)]),
}


@pytest.mark.parametrize("case", sorted(PASSES))
def test_palettes_that_say_nothing_else_pass(tmp_path, case):
    _, masks = read(write(tmp_path, *PASSES[case]))
    assert all(1 in each for each in masks)


def test_a_change_between_frames_that_are_not_the_first(tmp_path):
    colours = [[BLACK, RED], [BLACK, RED, GREEN], [BLACK, RED, WHITE]]
    with pytest.raises(
        DataError, match="index 2 is .255, 255, 255. on frame 2, but .30, 200, 30. on frame 1"
    ):
        read(write(tmp_path, colours, [(0, 1), (0, 1, 2), (0, 1, 2)]))


def test_a_first_palette_that_comes_back_is_compared_with_those_between(tmp_path):
    first = [BLACK, RED, GREEN]
    root = write(tmp_path, [first, [BLACK, RED, WHITE], first], [(0, 1), (0, 1, 2), (0, 1, 2)])
    with pytest.raises(
        DataError, match="index 2 is .30, 200, 30. on frame 2, but .255, 255, 255. on frame 1"
    ):
        read(root)
    (record,) = load_records("auto", root)
    assert [fault.frame for fault in VideoCheck()(record).faults] == [2]
    _, masks = read(root, colours="palette")
    assert [sorted(each) for each in masks] == [[1], [1, 3], [1, 2]]


def test_a_black_ground_of_another_index_is_refused_where_index_0_is_not_used(tmp_path):
    root = write(tmp_path, [[WHITE, RED, BLACK]], [(2, 1)])
    with pytest.raises(
        DataError, match=r"index 0, the ground, is \(255, 255, 255\), while index 2 is \(0, 0, 0\)"
    ):
        read(root)
    _, masks = read(root, colours="palette")
    assert [each.sum() for each in masks[0].values()] == [32]


@pytest.mark.parametrize("folder", ["Annotations/v", "Annotations/v/1"])
def test_a_coloured_ground_beside_black_is_refused(tmp_path, folder):
    write(tmp_path, [[RED, BLACK]], [(1, 0)])
    target = tmp_path / folder
    target.mkdir(exist_ok=True)
    (tmp_path / "Annotations/v/0.png").rename(target / "0.png")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    message = str(caught.value)
    assert all(
        each in message for each in ("0.png", "index 0", "(200, 30, 30)", "index 1", "frame 0", "palette")
    )


def test_by_colour_black_is_the_ground(tmp_path):
    record, masks = read(write(tmp_path, [[RED, BLACK], [BLACK, RED]], [(1, 0), (0, 1)]), colours="palette")
    assert [{key: int(mask.sum()) for key, mask in each.items()} for each in masks] == [{1: 32}, {1: 32}]
    assert load_void(record, 0) is None


def test_by_colour_255_of_a_whole_palette_is_void(tmp_path):
    palette = [(i, i // 2, 0) for i in range(256)]
    record, masks = read(write(tmp_path, [palette], [(0, 3, 255)]), colours="palette")
    assert list(masks[0]) == [3]
    assert load_void(record, 0).sum() == 32


def test_a_colour_that_is_counted_to_255_is_an_object(tmp_path):
    colours = [(1 + i // 16, 1 + i % 16, 0) for i in range(255)]
    _, masks = read(write(tmp_path / "last", [[*colours, BLACK]], [(255, 3, 254)]), colours="palette")
    assert [{key: int(mask.sum()) for key, mask in each.items()} for each in masks] == [{4: 32, 256: 32}]
    several = [[BLACK, *colours[:200]], [BLACK, *colours[200:]]]
    record, masks = read(write(tmp_path / "several", several, [(0, 3), (0, 54, 55)]), colours="palette")
    assert [sorted(each) for each in masks] == [[3], [254, 256]]
    assert load_void(record, 1) is None


def test_colours_that_are_no_table(tmp_path):
    write(tmp_path, [[BLACK, RED]], [(0, 1)])
    with pytest.raises(ConfigError, match="must be a table of colours, or palette"):
        load_records("auto", tmp_path, colours="index")
    Image.new("L", SIZE[::-1], 1).save(tmp_path / "Annotations/v/0.png")
    with pytest.raises(DataError, match="has no palette of colours.*leave it out"):
        read(tmp_path, colours="palette")


def test_one_palette_costs_no_second_look(tmp_path, monkeypatch):
    (record,) = load_records("auto", write(tmp_path, [[BLACK, RED]] * 4, [(0, 1)] * 4))
    looked = []
    monkeypatch.setattr(palettes, "_read_used", lambda path, *_: looked.append(path) or ())
    read_palette = palettes._read_palette.__wrapped__
    monkeypatch.setattr(palettes, "_read_palette", lambda path, *_: looked.append(path) or read_palette(path))
    load_masks(record, 3)
    assert looked == [record.annotations[0].path]  # the header of the first mask, and no other
