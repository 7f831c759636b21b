from __future__ import annotations

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from sam2vt.core.evaluation.jf import ObjectScore
from sam2vt.core.training.ranks import RankBatches
from sam2vt.core.training.validation import LossRow, ValidationRows


def score(video: str, object_id: int = 1, j: float = 0.5) -> ObjectScore:
    return ObjectScore(video, object_id, {"J": j, "F": j, "J&F": j}, 3)


@pytest.mark.parametrize("num_items", [0, 1, 2, 5, 6, 7])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_item_once_and_equally_many_batches(num_items, world_size, batch_size) -> None:
    ranks = [RankBatches(range(num_items), batch_size, rank, world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    items = [item for rank in ranks for batch in rank for item in batch]
    assert sorted(items) == list(range(num_items))


def test_the_batches_are_those_of_a_single_process() -> None:
    single = list(RankBatches("abcdefg", 2, 0, 1))
    assert single == [["a", "b"], ["c", "d"], ["e", "f"], ["g"]]
    assert list(RankBatches("abcdefg", 2, 0, 3)) == [["a", "b"], ["g"]]
    assert list(RankBatches("abcdefg", 2, 1, 3)) == [["c", "d"], []]


WEIGHTS = {"bce": 2.0, "dice": 1.0, "temporal": 0.5}


def counts(valid: int, present: int = 0, pairs: int = 0) -> dict[str, int]:
    return {"valid": valid, "present": present, "pairs": pairs}


def test_each_loss_is_weighted_by_what_its_means_divided_by() -> None:
    rows = ValidationRows(
        losses=[
            LossRow(0, counts(3, 1, 0), {"bce": 1.0, "dice": 0.5, "temporal": 0.0}),
            LossRow(1, counts(1, 1, 2), {"bce": 5.0, "dice": 0.1, "temporal": 0.4}),
        ]
    )
    means = {"bce": 2.0, "dice": pytest.approx(0.3), "temporal": pytest.approx(0.4)}
    assert rows.mean_losses(WEIGHTS) == {**means, "total": pytest.approx(4.0 + 0.3 + 0.2)}


def test_losses_of_nothing() -> None:
    assert ValidationRows(losses=[LossRow(0, counts(0), {"bce": 0.0})]).mean_losses(WEIGHTS) == {}
    assert ValidationRows().mean_losses(WEIGHTS) == {}
    absent = ValidationRows(losses=[LossRow(0, counts(2), {"bce": 1.0, "dice": 0.0})])
    assert absent.mean_losses(WEIGHTS) == {"bce": 1.0, "dice": 0.0, "total": 2.0}


def test_a_single_process_gathers_its_own_rows_in_order() -> None:
    rows = ValidationRows(
        losses=[LossRow(1, counts(1), {}), LossRow(0, counts(1), {})],
        scores=[score("b"), score("a", 2), score("a", 1)],
        hold_first=[score("b"), score("a")],
    ).gathered()
    assert [row.batch for row in rows.losses] == [0, 1]
    assert [(row.video_id, row.object_id) for row in rows.scores] == [("a", 1), ("a", 2), ("b", 1)]
    assert [row.video_id for row in rows.hold_first] == ["a", "b"]


def _gather(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    # Three batches and one video: the last rank has no video, and fewer batches.
    rows = ValidationRows(
        losses=[LossRow(n, counts(n + 1), {"bce": 0.1 * n}) for n in range(rank, 3, world_size)],
        scores=[score("a", j=0.25)] if rank == 0 else [],
    )
    gathered = rows.gathered()
    assert [row.batch for row in gathered.losses] == [0, 1, 2]
    single = ValidationRows(losses=[LossRow(n, counts(n + 1), {"bce": 0.1 * n}) for n in range(3)])
    assert gathered.mean_losses(WEIGHTS) == single.mean_losses(WEIGHTS)
    assert gathered.scores == [score("a", j=0.25)]
    dist.destroy_process_group()


def test_two_ranks_get_what_one_would(tmp_path) -> None:
    mp.spawn(_gather, args=(2, str(tmp_path)), nprocs=2)
