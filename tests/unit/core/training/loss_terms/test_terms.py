"""The table of loss terms: a row brings its component, its weight and its head."""

from __future__ import annotations

from dataclasses import make_dataclass

import pytest
import torch

from sam2vt.config import LossConfig
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.loss_terms.terms import TERMS, ClipTerm, MaskTerm
from sam2vt.settings import at_least, setting

MASKS = (torch.randn(1, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.ones(1, 2, 1, 4, 4))


def test_every_weight_of_the_configuration_is_a_row() -> None:
    assert {f"{name}_weight" for name in TERMS} == set(LossConfig.weights())


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (MaskTerm(of=lambda mask: mask.target_area, sums=(), divides_by="valid"), 16.0),
        (ClipTerm(of=lambda masks, entries: entries.counted.sum() * 3.0, divides_by="valid"), 3.0),
    ],
)
def test_a_new_row_is_computed_weighted_and_reported(term, expected, monkeypatch) -> None:
    plain = SAM2TrainingLoss()(*MASKS)
    monkeypatch.setitem(TERMS, "mine", term)
    weight = ("mine_weight", float, setting(0.0, "Weight.", at_least(0)))
    extended = make_dataclass("Extended", [weight], bases=(LossConfig,))
    monkeypatch.setattr("sam2vt.core.training.loss.LossConfig", extended)
    total, components = SAM2TrainingLoss(mine_weight=2.0)(*MASKS, return_components=True)
    assert components["mine"] == expected
    assert total.item() == pytest.approx(plain.item() + 2 * expected, rel=1e-5)
