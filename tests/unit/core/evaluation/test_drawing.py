"""Where frames, masks and prompts come to lie in the picture of clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sam2vt.core.evaluation.canvas import BAR, LABEL, MARGIN, legend_rows, swatch
from sam2vt.core.evaluation.palette import COLOURS, LOOKS
from sam2vt.core.evaluation.sheets import NEGATIVE, PANEL, POSITIVE, _prompt_entries, draw_sheet

SIDE = 56  # a quarter of a panel
SCALE = PANEL // SIDE


def clip_with(prompt: dict[str, Any]) -> Any:
    masks = torch.zeros((2, 1, SIDE, SIDE), dtype=torch.bool)
    masks[:, 0, 10:30, 20:40] = True
    return {
        "images": torch.full((2, 3, SIDE, SIDE), 100, dtype=torch.uint8),
        "masks": masks,
        "valid_masks": torch.tensor([[True], [False]]),
        "prompts": [{"object_index": 0, "frame_index": 0, **prompt}],
        "video_id": "v",
        "frame_indices": [3, 5],
        "object_ids": [7],
        "original_size": (SIDE, SIDE),
        "num_objects": 1,
    }


def panels(clip: Any) -> list[np.ndarray]:
    """The frames of the picture of one clip."""
    sheet = np.asarray(draw_sheet([clip]))
    top, lefts = BAR + LABEL, [MARGIN + t * (PANEL + MARGIN) for t in range(2)]
    return [sheet[top : top + PANEL, left : left + PANEL].astype(int) for left in lefts]


def points(coords: list[list[float]], labels: list[int], kind: str = "point") -> dict[str, Any]:
    return {
        "type": kind,
        "point_coords": torch.tensor(coords, dtype=torch.float32),
        "point_labels": torch.tensor(labels, dtype=torch.int32),
    }


def test_masks_are_tinted_where_they_lie():
    _, second = panels(clip_with(points([[25, 15]], [1])))
    inside, outside = second[20 * SCALE, 30 * SCALE], second[40 * SCALE, 30 * SCALE]
    assert outside.tolist() == [100, 100, 100]
    assert inside.tolist() == pytest.approx(0.58 * 100 + 0.42 * np.array(COLOURS[0]), abs=1)


@pytest.mark.parametrize(("label", "channel"), [(1, 1), (0, 0)])
def test_points_lie_on_their_pixel_and_frame(label, channel):
    first, second = panels(clip_with(points([[5, 45]], [label])))
    at = first[45 * SCALE + 2, 5 * SCALE + 2]
    assert at.argmax() == channel
    assert at[channel] > 200
    assert second[45 * SCALE + 2, 5 * SCALE + 2].tolist() == [100, 100, 100]


def test_boxes_have_their_corners():
    first, second = panels(clip_with(points([[4, 6], [50, 48]], [2, 3], "box")))
    changed = np.argwhere((first != second).any(axis=2))
    assert changed.min(axis=0) == pytest.approx([6 * SCALE, 4 * SCALE], abs=SCALE)
    assert changed.max(axis=0) == pytest.approx([49 * SCALE, 51 * SCALE], abs=SCALE)


def test_a_line_goes_around_a_mask_prompt():
    clip = clip_with({"type": "mask"})
    clip["prompts"][0]["mask"] = clip["masks"][0, 0]
    first, second = panels(clip)
    changed = np.argwhere((first != second).any(axis=2))
    assert changed.min(axis=0) == pytest.approx([10 * SCALE, 20 * SCALE], abs=SCALE)
    assert first[20 * SCALE, 30 * SCALE].tolist() == second[20 * SCALE, 30 * SCALE].tolist()


def test_clips_of_any_length_have_a_row_each():
    long, short = clip_with(points([[5, 5]], [1])), clip_with(points([[5, 5]], [1]))
    for name in ("images", "masks", "valid_masks"):
        short[name] = short[name][:1]
    sheet = draw_sheet([short, long])
    rows = 2 * (BAR + LABEL + PANEL + MARGIN)
    assert sheet.size == (MARGIN + 2 * (PANEL + MARGIN), rows + LABEL + MARGIN)


def test_names_are_in_the_legend():
    clip = clip_with(points([[25, 15]], [1]))
    plain, named = (np.asarray(draw_sheet([clip], names)) for names in (None, {"v": {7: "cystic_duct"}}))
    changed = np.argwhere((plain != named).any(axis=2))
    assert len(changed)
    assert changed[:, 0].max() < BAR + MARGIN  # in the title alone
    assert (named[: BAR + MARGIN] == COLOURS[0]).all(axis=2).any()
    assert np.array_equal(plain, np.asarray(draw_sheet([clip], {"v": {}})))


def test_clicks_differ_in_shape_too():
    """A disc has nothing of its colour in its corners, a cross nothing above its middle."""
    (positive, _), (negative, _) = (panels(clip_with(points([[5, 45]], [label]))) for label in (1, 0))
    x, y = 5 * SCALE + 2, 45 * SCALE + 2
    disc, cross = (image[y - 4 : y + 5, x - 4 : x + 5] for image in (positive, negative))
    is_disc, is_cross = (disc == POSITIVE).all(2), (cross == NEGATIVE).all(2)
    assert is_disc[1, 4]
    assert not is_disc[0, 0]
    assert is_cross[1, 1]
    assert not is_cross[0, 4]


@pytest.mark.parametrize(
    ("prompts", "entries"),
    [
        ([points([[5, 5]], [1])], ["positive click"]),
        ([points([[5, 5], [9, 9]], [1, 0])], ["positive click", "negative click"]),
        ([points([[4, 6], [50, 48]], [2, 3], "box"), {"type": "mask"}], ["box", "mask as prompt"]),
    ],
)
def test_the_legend_has_the_prompts_that_are_there(prompts, entries):
    clips = [clip_with(prompt) for prompt in prompts]
    found = list(_prompt_entries(clips))
    assert [words for words, _ in found] == entries
    assert len({icon.tobytes() for _, icon in found}) == len(entries)


@pytest.mark.parametrize("style", LOOKS)
def test_the_style_is_the_ground(style):
    sheet = draw_sheet([clip_with(points([[5, 5]], [1]))], style=style)
    assert "#{:02x}{:02x}{:02x}".format(*sheet.getpixel((0, 0))) == LOOKS[style].paper


def test_a_legend_is_divided_into_rows():
    entries = [("words of an object", swatch(n)) for n in range(5)]
    assert [len(row) for row in legend_rows(entries, 420)] == [2, 2, 1]
    assert [len(row) for row in legend_rows(entries, 20)] == [1] * 5  # never none
