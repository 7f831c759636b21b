"""Which entries count, their numbers over ranks, and the sums that leave out what does not count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sam2vt.core.training.loss_terms import entries as module
from sam2vt.core.training.loss_terms.entries import (
    Counts,
    Step,
    at_least_float32,
    check_targets,
    connected_zero,
    count_entries,
    entries_of,
    final_masks,
    find_entries,
    is_tracked,
    merged,
    pairs,
    sum_where,
    zero_unless,
)
from sam2vt.errors import DataError

NAN = math.nan


def bools(*rows: str) -> Tensor:
    """[1,T,N] of rows such as "10": one per frame, a digit per object."""
    return torch.tensor([[[digit == "1" for digit in row] for row in rows]])


# Four frames of two objects in 2 x 3 pixels. The second is empty on frames 1 and 2.
PRESENT = bools("11", "10", "10", "11")
VALID, SCORED = bools("11", "11", "01", "11"), bools("11", "11", "11", "10")
BOTH = bools("11", "11", "01", "10")


def targets(value: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Masks that are set at their last pixel alone."""
    masks = torch.zeros(1, 4, 2, 2, 3, dtype=dtype)
    masks[..., 1, 2] = PRESENT.to(dtype) * value
    return masks


@pytest.mark.parametrize(
    "masks", [targets(), targets(0.25), targets(dtype=torch.bool), targets(dtype=torch.uint8)]
)
def test_what_counts_is_valid_and_scored(masks: Tensor) -> None:
    """7 of 8 entries are valid, 6 also scored: 4 of them present, and 3 on two frames in a row."""
    found = find_entries(masks, VALID, SCORED, across_ranks=False)
    assert found.targets is masks
    assert found.adding is None
    assert torch.equal(found.counted, BOTH)
    assert torch.equal(found.present, PRESENT)
    assert found.counts() == (6, 4, 3)
    assert found.numbers.dtype == torch.float32
    assert count_entries(masks, VALID, SCORED) == {"valid": 6, "present": 4, "pairs": 3}


def test_a_target_of_negative_zeros_is_empty() -> None:
    assert not find_entries(-torch.zeros(1, 2, 1, 2, 2), None, None, False).present.any()


def test_all_counts_where_nothing_is_said() -> None:
    assert find_entries(targets(), None, None, False).counts() == (8, 6, 6)
    assert find_entries(targets(), VALID, None, False).counts() == (7, 5, 4)
    assert find_entries(targets(), None, SCORED, False).counts() == (7, 5, 5)
    numbers = VALID.float() * 0.5  # as truth values, not as bits
    assert torch.equal(find_entries(targets(), numbers, None, False).counted, VALID)


def test_a_denominator_is_never_0_but_a_number_of_entries_is() -> None:
    none = torch.zeros(1, 4, 2, dtype=torch.bool)
    assert find_entries(targets(), none, None, False).counts() == (1, 1, 1)
    assert count_entries(targets(), none, None) == {"valid": 0, "present": 0, "pairs": 0}
    one = bools("00", "01", "00", "00")
    assert find_entries(targets(), one, None, False).counts() == (1, 1, 1)
    assert count_entries(targets(), one, None) == {"valid": 1, "present": 0, "pairs": 0}


def test_numbers_of_an_update_take_the_place_of_a_batchs_own() -> None:
    found = find_entries(targets(), VALID, SCORED, False, {"pairs": 0, "valid": 9, "present": 5})
    assert found.counts() == (9, 5, 1)
    assert found.numbers.dtype == torch.float32
    assert torch.equal(found.counted, BOTH)
    elsewhere = find_entries(targets().to("meta"), None, None, False, {"pairs": 0, "valid": 9, "present": 5})
    assert elsewhere.numbers.device.type == "meta"


def test_pairs_are_entries_on_two_frames_in_a_row() -> None:
    assert torch.equal(pairs(bools("110", "101", "111", "011")), bools("100", "101", "011"))
    assert pairs(bools("11")).shape == (1, 0, 2)


class Ranks:
    """Three ranks, of which the others have (10, 5, 0) entries together; their numbers come at `wait`."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def all_reduce(self, numbers: Tensor, **options: Any) -> Ranks:
        self.asked.append(options)
        self._numbers = numbers
        return self

    def wait(self) -> None:
        self._numbers += torch.tensor([10.0, 5.0, 0.0])


@pytest.mark.parametrize("none_here", [False, True])
def test_numbers_are_means_over_ranks(none_here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    monkeypatch.setattr(module.dist, "is_available", lambda: True)
    monkeypatch.setattr(module.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(module.dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(module.dist, "all_reduce", ranks.all_reduce)
    valid = torch.zeros_like(VALID) if none_here else VALID
    found = find_entries(targets(), valid, SCORED, across_ranks=True)
    assert ranks.asked == [{"async_op": True}]
    assert found.adding is ranks
    expected = [10 / 3, 5 / 3, 1] if none_here else [16 / 3, 9 / 3, 3 / 3]
    assert [number.item() for number in found.counts()] == pytest.approx(expected)
    assert find_entries(targets(), VALID, SCORED, across_ranks=False).counts() == (6, 4, 3)
    assert len(ranks.asked) == 1


@pytest.mark.parametrize(("available", "initialized"), [(False, True), (True, False)])
def test_a_process_on_its_own_asks_nobody(
    available: bool, initialized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.dist, "is_available", lambda: available)
    monkeypatch.setattr(module.dist, "is_initialized", lambda: initialized)
    assert find_entries(targets(), VALID, SCORED, across_ranks=True).counts() == (6, 4, 3)


def step(*index: tuple[int, int, int], num_masks: int = 3, ious: bool = True, logits: bool = True) -> Step:
    """A step whose values tell the entries apart."""
    place = torch.tensor(index)
    number = place.float() @ torch.tensor([100.0, 10.0, 1.0])
    return Step(
        place,
        number[:, None, None, None].expand(-1, num_masks, 2, 2),
        number[:, None].expand(-1, num_masks) if ious else None,
        number[:, None] if logits else None,
    )


def test_entries_of_steps_are_those_of_their_index() -> None:
    steps = [step((0, 0, 1), (0, 2, 0)), step((0, 3, 1)), step((0, 0, 1), num_masks=1)]
    assert torch.equal(entries_of(steps, torch.zeros(1, 4, 2, 5, 5)), bools("01", "00", "10", "01"))
    assert not entries_of([], torch.zeros(1, 4, 2, 5, 5)).any()
    assert entries_of([], torch.zeros(1, 4, 2, 5, 5, device="meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("logit", "tracked"),
    [(-2048.0, False), (-2049.0, False), (-2047.0, False), (-2046.0, True), (-1024.0, True), (0.0, True)]
    + [(2048.0, True), (NAN, True)],
)
def test_what_the_model_fills_in_is_not_tracked(logit: float, tracked: bool) -> None:
    masks = torch.zeros(1, 2, 3, 2, 2)
    masks[0, 0, 1, 0, 0] = logit
    assert is_tracked(masks).tolist() == [[[True, tracked, True], [True, True, True]]]
    masks[0, 0, 1] = logit
    assert is_tracked(masks).tolist() == [[[True, tracked, True], [True, True, True]]]


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.25, 0.5]])
def test_targets_are_from_0_to_1(values: list[float]) -> None:
    check_targets(torch.tensor(values))
    check_targets(torch.tensor(values).bool())
    check_targets(torch.zeros(0))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.0, 255.0], "0 to 255"),
        ([0.0, 1.5], "0 to 1.5"),
        ([-0.5, 1.0], "-0.5 to 1"),
        ([NAN, 1.0], "nan to nan"),
    ],
)
def test_other_targets_are_refused(values: list[float], said: str) -> None:
    with pytest.raises(
        DataError, match=f"target_masks: values from {said}; allowed are bool, or numbers from 0"
    ):
        check_targets(torch.tensor(values))


def test_final_masks_are_a_step_of_what_counts() -> None:
    number = torch.arange(8.0).view(1, 4, 2)
    masks = number[..., None, None].expand(-1, -1, -1, 2, 3)
    found = find_entries(targets(), VALID, SCORED, False)
    made = final_masks(masks, found, number, number + 10)
    assert made.index.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 2, 1], [0, 3, 0]]
    assert made.multimasks.shape == (6, 1, 2, 3)
    assert made.multimasks[:, 0, 1, 2].tolist() == [0, 1, 2, 3, 5, 6]
    assert made.ious.tolist() == [[0], [1], [2], [3], [5], [6]]
    assert made.object_score_logits.tolist() == [[10], [11], [12], [13], [15], [16]]
    bare = final_masks(masks, found, None, None)
    assert bare.ious is bare.object_score_logits is None


def test_steps_with_as_many_masks_become_one() -> None:
    steps = [
        step((0, 0, 0), (0, 0, 1)),
        step((0, 1, 0), num_masks=1),
        step((0, 2, 1)),
        step((0, 3, 0), ious=False),
        step((0, 3, 1), logits=False),
        step((1, 0, 0), num_masks=1),
    ]
    found = list(merged(steps))
    assert [each.index.tolist() for each in found] == [
        [[0, 0, 0], [0, 0, 1], [0, 2, 1]],
        [[0, 1, 0], [1, 0, 0]],
        [[0, 3, 0]],
        [[0, 3, 1]],
    ]
    assert found[0].multimasks[:, 2, 1, 1].tolist() == [0, 1, 21]
    assert found[0].ious[:, 1].tolist() == [0, 1, 21]
    assert found[0].object_score_logits.tolist() == [[0], [1], [21]]
    assert found[1].multimasks.shape == (2, 1, 2, 2)
    assert (found[2].ious, found[3].object_score_logits) == (None, None)
    assert found[2].object_score_logits.tolist() == [[30]]
    assert found[3].ious.tolist() == [[31, 31, 31]]


def test_what_does_not_count_is_0_even_where_it_is_not_a_number() -> None:
    counts, values = torch.tensor([True, False, True]), torch.tensor([[1.0, 2.0], [NAN, 4.0], [5.0, -6.0]])
    assert zero_unless(counts, values).tolist() == [[1, 2], [0, 0], [5, -6]]
    assert zero_unless(counts, values[:, 0]).tolist() == [1, 0, 5]
    assert zero_unless(counts, values[..., None, None]).shape == (3, 2, 1, 1)
    assert sum_where(counts, values).item() == 2
    assert sum_where(~counts[:2], values[:2, 1]).item() == 4


def test_sums_are_of_float32_at_least() -> None:
    for given, expected in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert at_least_float32(torch.ones(2, dtype=given)).dtype == expected


def test_a_connected_zero_has_a_gradient_of_zeros() -> None:
    values = torch.tensor([[NAN, math.inf], [3.0, 4.0]], requires_grad=True)
    zero = connected_zero(values)
    assert zero.item() == 0
    zero.backward()
    assert values.grad.tolist() == [[0, 0], [0, 0]]


def test_the_names_of_the_numbers() -> None:
    assert Counts._fields == ("valid", "present", "pairs")
