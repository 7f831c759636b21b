"""Where frames, masks and prompts come to lie in the picture of clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sam2vt.core.evaluation.drawing import BAR, LABEL, MARGIN, PANEL, draw_sheet
from sam2vt.core.evaluation.palette import COLOURS

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
    assert sheet.size == (MARGIN + 2 * (PANEL + MARGIN), MARGIN + 2 * (BAR + LABEL + PANEL + MARGIN))


def test_names_are_in_the_legend():
    clip = clip_with(points([[25, 15]], [1]))
    plain, named = (np.asarray(draw_sheet([clip], names)) for names in (None, {"v": {7: "cystic_duct"}}))
    changed = np.argwhere((plain != named).any(axis=2))
    assert len(changed)
    assert changed[:, 0].max() < BAR + 4  # in the title alone
    assert (named[:BAR] == COLOURS[0]).all(axis=2).any()
    assert np.array_equal(plain, np.asarray(draw_sheet([clip], {"v": {}})))
