from __future__ import annotations

import torch

from sam2vt.core.model.tracking.prompt_inputs import predicted_entries

from ..conftest import make_clips, nano_model, prompt


def test_where_the_model_predicts_is_known_before_it_runs() -> None:
    images, masks = make_clips(2, 4, 3)
    given = [
        [
            prompt("mask", masks[0, 0, 0], 0),
            prompt("mask", masks[0, 2, 0], 0, 2),
            prompt("point", masks[0, 1, 2], 2, 1),
        ],
        [prompt("box", masks[1, 3, 1], 1, 3)],
    ]
    with torch.no_grad():
        scored = nano_model().eval()(images, masks, given)["scored"]
    assert torch.equal(predicted_entries(given, masks.shape[:3]), scored)
