from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.clips import content as content_module
from sam2vt.core.data.clips.content import (
    MAX_SHIFT,
    Window,
    _draw_stride,
    _largest_areas,
    _padded,
    _shares,
    _window_starts,
    are_kept,
    choose_objects,
    choose_window,
    draw_content,
    draw_motion,
    move,
    move_mask,
    prompted_frames,
)
from sam2vt.core.data.clips.drawing import draw_clip, make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.types import LabelImage, SampleKey, Segmentations, VideoRecord
from sam2vt.errors import DataError

SIDE, BACKGROUND, COLOUR = 64, (20, 40, 60), (230, 10, 10)


def spec(**options):
    return ClipSpec((SIDE, SIDE), 6, PromptGenerator(["mask"]), **options)


@pytest.fixture
def still(tmp_path):
    """A red rectangle, object 7."""
    image = np.full((48, 80, 3), BACKGROUND, np.uint8)
    image[16:32, 20:50] = COLOUR
    Image.fromarray(image).save(tmp_path / "a.png")
    polygon = [[20, 16, 50, 16, 50, 32, 20, 32]]
    return VideoRecord(
        "a",
        1,
        48,
        80,
        {0: Segmentations({7: [polygon]})},
        frame_paths=(str(tmp_path / "a.png"),),
        is_still=True,
    )


def test_motion_begins_with_the_still_and_is_smooth():
    maps = draw_motion(9, SIDE, np.random.default_rng(3))
    assert np.allclose(maps[0], [[1, 0, 0], [0, 1, 0]])
    steps = np.abs(np.diff(maps, axis=0))
    assert steps[..., 2].max() < 4 * MAX_SHIFT * SIDE / 8 * 2
    assert (steps.reshape(8, -1).max(axis=1) > 0).all()  # it never stands still


def test_masks_move_with_their_object(still):
    for index in range(20):
        clip = draw_clip([still], SampleKey(0, index), spec())
        red = clip["images"][:, 0].astype(int) - clip["images"][:, 2] > 100
        masks = clip["masks"][:, 0]
        # What is mirrored at the edge is red, too, but no object's.
        assert (masks & ~red).sum() < 0.12 * masks.sum()
        first = red[0] & masks[0]
        assert first.sum() > 0.95 * red[0].sum()
        assert clip["valid_masks"].all()
        assert clip["frame_indices"] == [0] * 6
        assert clip["prompts"][0]["frame_index"] == 0


def test_draws_repeat_and_differ(still):
    a, b, other = (draw_clip([still], SampleKey(0, index), spec())["images"] for index in (4, 4, 5))
    assert np.array_equal(a, b)
    assert not np.array_equal(a[1:], other[1:])
    assert not np.array_equal(a, draw_clip([still], SampleKey(0, 4), spec(seed=1))["images"])


def test_a_clip_of_one_frame_is_the_still(still):
    clip = make_clip([still], SampleKey(0, 0), ClipSpec((SIDE, SIDE), 1, PromptGenerator(["mask"])))
    assert clip["images"].shape == (1, 3, SIDE, SIDE)
    assert clip["masks"].any()


def test_an_object_out_of_sight_is_absent():
    away = np.array([[[1.0, 0, 0], [0, 1, 0]], [[1, 0, SIDE], [0, 1, 0]]])
    mask = np.ones((SIDE, SIDE), dtype=bool)
    moved = move_mask(mask, away)
    assert moved[0].all()
    assert not moved[1].any()
    assert move(np.zeros((SIDE, SIDE, 3), np.uint8), away).shape == (2, SIDE, SIDE, 3)


# The choice of frames and objects, and motion, by hand


def annotated_record(length, annotated, start=0):
    paths = tuple(f"{i}.png" for i in range(start + length + 3))
    masks = {i: LabelImage(f"{i}.png") for i in annotated}
    return VideoRecord("v", len(paths), 4, 4, masks, frame_paths=paths, frame_range=(start, start + length))


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize(("clip_length", "stride"), [(1, 1), (3, 1), (2, 3), (3, 2), (4, 2)])
def test_windows_are_all_that_hold_an_annotated_frame(start, length, clip_length, stride):
    """Those that fit; where none does, those that begin within the first stride."""
    chosen = replace(spec(), clip_length=clip_length, frame_stride=stride)
    stop, span = start + length, (clip_length - 1) * stride + 1
    fitting = [s for s in range(start, stop) if s + span <= stop]
    candidates = fitting or range(start, min(start + stride, stop))
    for seed in range(4):
        annotated = [i for i in range(start, stop) if np.random.default_rng([seed, i]).random() < 0.4]
        windows = {s: {s + k * stride for k in range(clip_length)} for s in candidates}
        expected = [s for s, frames in windows.items() if frames & set(annotated)]
        assert _window_starts(annotated_record(length, annotated, start), chosen).tolist() == expected


def shown(**frames):
    """A window: per frame the objects that are visible and their numbers of pixels."""
    visible = {}
    for name, areas in frames.items():
        masks = {i: np.arange(100).reshape(10, 10) < area for i, area in areas.items()}
        visible[int(name[1:])] = masks
    return Window(sorted(visible), visible)


def test_early_objects_are_those_before_the_last_frame():
    window = shown(f2={1: 5}, f3={}, f4={1: 5, 7: 9}, f5={2: 3})
    assert window.early == {1, 7}
    assert Window([5, 4, 3, 2], window.visible).early == {1, 7, 2}
    assert shown(f0={3: 1}).early == set()


def test_the_choice_of_objects_by_size():
    window = shown(f0={1: 10, 2: 20}, f1={1: 30, 3: 30}, f2={4: 99})
    rng = np.random.default_rng(0)

    def chosen(**options):
        return choose_objects(window, spec(**options), rng)

    assert chosen() == [1, 2, 3]  # not what only the last frame shows
    assert chosen(min_object_pixels=20) == [1, 2, 3]
    assert chosen(min_object_pixels=21) == [1, 3]  # by the largest area
    assert chosen(min_object_pixels=30) == [1, 3]
    assert chosen(min_object_pixels=31) == [1]
    assert choose_objects(window, spec(max_objects=3), None) == [1, 2, 3]  # no number is drawn
    assert all(len(set(chosen(max_objects=2))) == 2 for _ in range(9))
    assert {tuple(chosen(max_objects=2)) for _ in range(40)} == {(1, 2), (1, 3), (2, 3)}
    assert choose_objects(shown(f0={}, f1={4: 1, 2: 3}), spec(), rng) == [2, 4]


def test_shares_of_objects():
    window = shown(f0={1: 10, 2: 20}, f1={1: 30, 3: 60}, f2={1: 5})
    areas = _largest_areas(window, [1, 2, 3])
    assert areas == {1: 30, 2: 20, 3: 60}
    assert _largest_areas(window, [2]) == {2: 20}
    assert _shares(window, [1, 2, 3], areas, "uniform") is None
    assert _shares(window, [1, 2, 3], areas, "large").tolist() == [30 / 110, 20 / 110, 60 / 110]
    assert _shares(window, [1, 2, 3], {}, "visible").tolist() == [3 / 5, 1 / 5, 1 / 5]


@pytest.mark.parametrize(
    ("num_frames", "least", "most", "expected"),
    [(100, 2, 4, {2, 3, 4}), (11, 1, 4, {1, 2}), (10, 1, 4, {1}), (6, 2, 9, {2}), (100, 3, None, {3})],
)
def test_strides_within_the_video(num_frames, least, most, expected):
    """Six frames at stride s take 5 s + 1 of the video; the least stride is kept even so."""
    rng = np.random.default_rng(0)
    given = spec(frame_stride=least, max_frame_stride=most)
    assert {_draw_stride(num_frames, given, rng) for _ in range(40)} == expected
    two = replace(spec(frame_stride=1, max_frame_stride=9), clip_length=2)
    assert {_draw_stride(4, two, rng) for _ in range(40)} == {1, 2, 3}
    alone = replace(given, clip_length=1)
    assert _draw_stride(3, alone, rng) in range(least, (most or least) + 1)


def test_what_is_kept():
    def objects(*areas):
        return np.arange(100).reshape(10, 10) < np.array(areas)[:, None, None]

    assert are_kept(objects(90, 10), objects(16, 10))
    assert are_kept(objects(16, 17), objects(16, 16))
    assert not are_kept(objects(90, 10), objects(15, 10))
    assert not are_kept(objects(90, 10), objects(90, 9))
    assert are_kept(objects(0), objects(0))
    assert are_kept(objects(9), objects(9))


def test_prompted_frames_are_the_first_visible_ones():
    masks = np.zeros((4, 3, 5, 6), dtype=bool)
    masks[2:, 0, 1, 1] = masks[0, 1, 4, 5] = masks[3, 1, 0, 0] = True
    assert prompted_frames(masks).tolist() == [2, 0, 0]


def test_motion_is_a_bent_curve_from_the_still_to_another_pose():
    middle, end = np.random.default_rng(7).uniform(-1, 1, (2, 4)) * [15, np.log(1.3), 0.2, 0.2]
    maps = draw_motion(5, SIDE, np.random.default_rng(7))
    centre = (SIDE - 1) / 2
    for t, matrix in enumerate(maps):
        s = t / 4
        degrees, zoom, right, down = 2 * s * (1 - s) * middle + s**2 * end
        angle, zoom = np.radians(degrees), np.exp(zoom)
        turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        # The centre moves by the shift alone.
        offset = centre + SIDE * np.array([right, down]) - turn @ [centre, centre]
        assert np.allclose(matrix, np.column_stack([turn, offset]))
    assert np.allclose(draw_motion(1, SIDE, np.random.default_rng(7)), [[[1, 0, 0], [0, 1, 0]]])
    assert np.allclose(draw_motion(2, SIDE, np.random.default_rng(7)), maps[[0, -1]])


def test_moving_mirrors_the_image_but_not_the_mask():
    """Two pixels to the right, in images that are not square."""
    shift = np.array([[[1.0, 0, 2], [0, 1, 0]], [[1, 0, 2.6], [0, 1, 0]]])
    row = np.arange(5, dtype=np.uint8) * 10
    image = np.broadcast_to(row[None, :, None], (3, 5, 3)).copy()
    (moved, _) = move(image, shift)
    assert moved.shape == (3, 5, 3)
    assert (moved == np.array([20, 10, 0, 10, 20])[None, :, None]).all()
    mask = np.zeros((3, 5), dtype=bool)
    mask[:, 0] = True
    whole, part = move_mask(mask, shift)
    assert whole.tolist() == [[False, False, True, False, False]] * 3
    assert part.tolist() == [[False, False, False, True, False]] * 3  # the nearest pixel, not two halves
    assert whole.dtype == bool


def test_a_clip_longer_than_its_video(make_video):
    """Beyond its end the last image is repeated, and no mask is there or known."""
    box, other = (0, 0, 32, 48), (32, 0, 64, 48)
    record = make_video("v", [{1: box}, None, {2: other}])
    frames, content = draw_content(record, replace(spec(), clip_length=5), np.random.default_rng(0))
    assert frames == [0, 1, 2]
    assert content.images[:, :, 0, 0].tolist() == [[0] * 3, [1] * 3, [2] * 3, [2] * 3, [2] * 3]
    assert content.object_ids == [1]
    assert content.masks.any(axis=(2, 3)).tolist() == [[True], [False], [False], [False], [False]]
    assert content.masks[0, 0, :, :32].all()
    assert not content.masks[0, 0, :, 32:].any()
    assert content.valid_masks.tolist() == [[True], [False], [True], [False], [False]]
    assert content.valid_masks.dtype == content.masks.dtype == bool
    assert content.features is None


def test_of_some_objects_nothing_is_known(make_video, monkeypatch):
    known = {0: None, 1: frozenset({1}), 2: frozenset({2})}
    monkeypatch.setattr(content_module, "known_objects", lambda record, frame: known[frame])
    left, right = (0, 0, 32, 48), (32, 0, 64, 48)
    record = make_video("v", [{1: left, 2: right}, {1: left}, {}])
    _, content = draw_content(record, replace(spec(), clip_length=3), np.random.default_rng(0))
    assert content.object_ids == [1, 2]
    assert content.valid_masks.tolist() == [[True, True], [True, False], [False, True]]


def test_a_clip_of_cached_features_reads_no_image(make_video):
    class Cache:
        def read(self, record, frames):
            return [np.array(frames)[:, None] * 10, np.array(frames)[:, None] * 100]

    record = make_video("v", [{1: (0, 0, 32, 48)}, {}])
    chosen = replace(spec(), clip_length=3, features=Cache())
    frames, content = draw_content(record, chosen, np.random.default_rng(0))
    assert frames == [0, 1]
    assert [level[:, 0].tolist() for level in content.features] == [[0, 10, 10], [0, 100, 100]]
    assert content.images.size == 0
    assert content.masks.any(axis=(2, 3)).tolist() == [[True], [False], [False]]


def test_frames_that_are_known_to_be_empty_are_read_once(make_video, monkeypatch):
    reads = []

    def load(record, frame):
        reads.append(frame)
        return load_masks(record, frame)

    monkeypatch.setattr(content_module, "load_masks", load)
    record = make_video("v", [*[{}] * 6, {1: (0, 0, 32, 48)}])
    assert choose_window(record, replace(spec(), clip_length=3), np.random.default_rng(0)).frames == [4, 5, 6]
    assert sorted(reads) == [0, 1, 2, 3, 4, 5, 6]


def test_a_window_that_only_shows_an_object_last_is_the_second_choice(make_video):
    box = (0, 0, 32, 48)
    two = replace(spec(), clip_length=2)
    first = make_video("first", [{1: box}, {}, {}, {}])
    last = make_video("last", [{}, {}, {}, {1: box}])
    early = make_video("early", [{}, {}, {1: box}, {}])
    for seed in range(8):
        rng = np.random.default_rng(seed)
        assert choose_window(first, two, rng).frames == [0, 1]
        window = choose_window(last, two, rng)
        assert (window.frames, sorted(window.visible[3])) == ([2, 3], [1])
        assert choose_window(early, two, rng).frames == [2, 3]
        assert choose_window(last, replace(two, clip_length=1), rng).frames == [3]
        # Backwards there would be nothing left to track in the first; in the last there is.
        backwards = replace(two, reverse_probability=1.0)
        assert choose_window(first, backwards, rng).frames == [0, 1]
        assert choose_window(last, backwards, rng).frames == [3, 2]


def test_a_video_without_a_visible_object_or_without_frames(make_video):
    with pytest.raises(DataError, match="frames 0 to 1: no object is visible on any of the 2 annotated"):
        choose_window(make_video("empty", [{}, {}]), spec(), np.random.default_rng(0))
    with pytest.raises(DataError, match=r"video v \(.*\) has no usable frame"):
        _window_starts(annotated_record(0, []), spec())


def test_features_are_padded_with_the_last():
    read = np.arange(8).reshape(2, 2, 2)
    assert _padded(read, replace(spec(), clip_length=4)).tolist() == [*read.tolist(), *[read[1].tolist()] * 2]
    assert _padded(read, replace(spec(), clip_length=2)) is read
