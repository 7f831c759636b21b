"""Overlays: which frames are kept, and that the pictures show masks where they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.evaluation.canvas import LABEL, MARGIN, fit_text
from sam2vt.core.evaluation.drawing import draw_masks, resize_masks
from sam2vt.core.evaluation.overlays import HEAD, OverlayRecorder, WorstVideos
from sam2vt.core.evaluation.palette import COLOURS, WHITE, colour_of


def box(height, width, top, left, size=10):
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def is_close(pixel, colour):
    """Anti-aliasing softens outlines a little."""
    return bool((abs(np.asarray(pixel, dtype=int) - np.array(colour)) <= 50).all())


def test_masks_are_tinted_and_outlined():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    one, two = box(40, 60, 5, 5), box(40, 60, 20, 30)
    drawn = draw_masks(image, {4: one, 9: two}, {4: 0, 9: 1})
    assert (image == 100).all()
    untouched = ~(one | two)
    # Anti-aliased outlines reach a pixel out of the mask.
    untouched &= ~(box(40, 60, 3, 3, 14) | box(40, 60, 18, 28, 14))
    assert (drawn[untouched] == 100).all()
    assert is_close(drawn[5, 10], COLOURS[0])
    inside = drawn[25, 35].astype(int)
    assert (abs(inside - (0.58 * 100 + 0.42 * np.array(COLOURS[1]))) <= 1).all()


def test_truth_is_white_where_it_differs_alone():
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    mask = box(40, 60, 5, 5)
    same = draw_masks(image, {1: mask}, {1: 0}, [mask])
    assert is_close(same[5, 10], COLOURS[0])
    other = draw_masks(image, {1: mask}, {1: 0}, [box(40, 60, 20, 30)])
    assert is_close(other[20, 35], WHITE)


def test_colours_differ():
    colours = [colour_of(place) for place in range(24)]
    assert len(set(colours)) == 24
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_resized_masks_keep_their_place_and_never_vanish():
    masks = {1: box(100, 200, 20, 40, 40), 2: box(100, 200, 50, 150, 1), 3: np.zeros((100, 200), dtype=bool)}
    small = resize_masks(masks, (25, 50))
    assert np.array_equal(small[1], box(25, 50, 5, 10, 10))
    assert small[2].any()
    assert not small[3].any()
    large = resize_masks(masks, (200, 400))
    assert large[1].sum() == pytest.approx(4 * 1600, rel=0.03)


def test_text_is_cut_to_its_place():
    assert fit_text("short", 200, 13) == "short"
    cut = fit_text("a very long name of a video", 80, 13)
    assert cut.endswith("…")
    assert "a very long".startswith(cut[:-1])


@pytest.fixture
def record(make_record):
    labels = np.zeros((50, 60, 90), dtype=np.uint8)
    for t in range(50):
        labels[t, 10:30, t : t + 20] = 1
    return make_record([frame if t % 2 == 0 else None for t, frame in enumerate(labels)], video_id="clip")


def feed(recorder, num_frames=50, shift=0, ids=(1,)):
    for t in range(num_frames):
        gt = box(60, 90, 10, t, 20)
        annotated = t in recorder.record.annotations
        predictions = {i: np.roll(gt, shift, axis=1) for i in ids}
        recorder(t, np.zeros((8, 8, 3), dtype=np.uint8), predictions, {1: gt} if annotated else {})


def test_only_chosen_frames_are_kept(record):
    recorder = OverlayRecorder(record, num_grid_frames=3, max_animation_frames=4, panel_px=45)
    feed(recorder)
    assert sorted(recorder._moments) == [0, 16, 24, 33, 48, 49]
    assert all(m.predictions[1].shape == (30, 45) for m in recorder._moments.values())
    assert recorder._moments[33].truth is None
    assert recorder._moments[24].j == 1


def test_pictures(record, tmp_path):
    recorder = OverlayRecorder(record, num_grid_frames=3, max_animation_frames=8, panel_px=90)
    feed(recorder, shift=20)
    grid, animation = recorder.save(tmp_path / "overlays", note="J&F 0.123")
    assert (grid.name, animation.name) == ("clip.png", "clip.gif")
    picture = np.asarray(Image.open(grid).convert("RGB")).astype(int)
    assert picture.shape[:2] == (HEAD + 2 * (LABEL + 60) + MARGIN, MARGIN + 3 * (90 + MARGIN))
    # Frame 24, the middle column: the truth lies at x 24..44, the prediction 20 to the right of it.
    x, y = MARGIN + 90 + MARGIN, HEAD + LABEL
    above = picture[y : y + 60, x : x + 90]
    below = picture[y + LABEL + 60 : y + LABEL + 120, x : x + 90]
    assert is_close(above[10, 34], COLOURS[0])
    assert is_close(below[10, 54], COLOURS[0])
    assert is_close(below[10, 34], WHITE)
    with Image.open(animation) as gif:
        assert gif.n_frames == 8
        assert gif.size == (MARGIN + 2 * (90 + MARGIN), HEAD + LABEL + 60 + MARGIN)
        assert gif.info["loop"] == 0


def test_small_videos_are_enlarged_and_ids_with_slashes_get_a_file(make_record, tmp_path):
    (tmp_path / "set").mkdir()
    record = make_record([np.eye(16, dtype=np.uint8)] * 3, video_id="set/1")
    recorder = OverlayRecorder(record)
    for t in range(3):
        recorder(t, np.zeros((8, 8, 3), np.uint8), {}, {1: np.eye(16, dtype=bool)})
    grid, animation = recorder.save(tmp_path / "out")
    assert grid.name == "set%2F1.png"
    assert animation.exists()
    assert Image.open(grid).size[0] == MARGIN + 3 * (384 + MARGIN)


def test_many_objects_and_long_names_fit(make_record, tmp_path):
    record = make_record([np.eye(40, dtype=np.uint8)] * 3, video_id="name" * 40)
    recorder = OverlayRecorder(record, panel_px=64)
    masks = {i: box(40, 40, i, i, 3) for i in range(30)}
    recorder(0, np.zeros((8, 8, 3), np.uint8), masks, masks)
    grid, _ = recorder.save(tmp_path / "out", note="a long note " * 9)
    assert Image.open(grid).size == (MARGIN + 64 + MARGIN, HEAD + 2 * (LABEL + 64) + MARGIN)


def test_nothing_seen_writes_nothing(record, tmp_path):
    assert OverlayRecorder(record).save(tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_the_legend_has_the_names_of_objects(record, tmp_path):
    pictures = []
    for number, names in enumerate(({}, {1: "cystic_duct"})):
        recorder = OverlayRecorder(replace(record, object_names=names), 3, 4, panel_px=400)
        feed(recorder)
        grid, _ = recorder.save(tmp_path / str(number))
        pictures.append(np.asarray(Image.open(grid).convert("RGB")))
    plain, named = pictures
    changed = np.argwhere((plain != named).any(axis=2))
    assert len(changed)
    assert changed[:, 0].max() < HEAD  # in the legend alone


class NamedRecorder:
    """In place of an `OverlayRecorder`: says what is saved."""

    def __init__(self, name):
        self.name = name

    def save(self, folder, note, prefix):
        return [(f"{prefix}{self.name}", note)]


def test_the_worst_videos_are_kept_and_ranked():
    worst = WorstVideos(3)
    for name, score in zip("abcdefg", (0.5, math.nan, 0.2, 0.9, 0.2, 0.1, 0.2)):
        worst.add(score, NamedRecorder(name), f"J&F {score}")
        assert len(worst._kept) <= 3  # memory does not grow with the number of videos
    assert worst.save("out") == [("01_f", "J&F 0.1"), ("02_c", "J&F 0.2"), ("03_e", "J&F 0.2")]


def test_videos_without_a_score_come_last():
    worst = WorstVideos(3)
    for name, score in zip("ab", (math.nan, 0.9)):
        worst.add(score, NamedRecorder(name), "")
    assert [name for name, _ in worst.save("out")] == ["01_b", "02_a"]


def test_a_prefix_begins_the_names(record, tmp_path):
    recorder = OverlayRecorder(record, 2, 2, panel_px=45)
    feed(recorder)
    assert [path.name for path in recorder.save(tmp_path, prefix="01_")] == ["01_clip.png", "01_clip.gif"]
