from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.results_csv import ResultsCsv, read_rows, write_rows
from sam2vt.core.training.callbacks.validations import FirstValidation
from sam2vt.core.training.checkpoints.store import CheckpointStore


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_row_a_validation_the_first_before_training(fit, one_weight, tmp_path) -> None:
    path = tmp_path / "run" / "results.csv"
    fit(one_weight([0.1, 0.2, 0.3]), [ResultsCsv(path), FirstValidation()], [1.0, 1.0])
    rows = read(path)
    assert [row["step"] for row in rows] == ["0", "2", "4"]
    assert [row["epoch"] for row in rows] == ["0", "0", "1"]
    assert [float(row["val/J&F"]) for row in rows] == pytest.approx([0.1, 0.2, 0.3])
    assert list(rows[0])[:3] == ["step", "epoch", "seconds"]
    # w goes 0, 0.2, 0.36, ...: the losses (w - 1)^2 of each epoch's two steps, averaged.
    assert rows[0]["train/loss"] == ""
    assert float(rows[1]["train/loss"]) == pytest.approx((1 + 0.8**2) / 2)
    assert float(rows[2]["train/bce"]) == pytest.approx((0.64**2 + 0.512**2) / 2)


def test_a_resumed_run_drops_rows_after_its_checkpoint_and_goes_on(fit, one_weight, tmp_path) -> None:
    path, checkpoint = tmp_path / "results.csv", tmp_path / "ckpt" / "last.ckpt"
    last = SaveCheckpoints(CheckpointStore(str(checkpoint.parent)), None, checkpoint.parent)
    fit(one_weight(), [ResultsCsv(path), FirstValidation(), last], [1.0, 1.0], max_epochs=1)
    kept = read(path)
    write_rows(path, [*read_rows(path), {"step": 7, "epoch": 3, "seconds": 50.0}])
    last = SaveCheckpoints(CheckpointStore(str(checkpoint.parent)), None, checkpoint.parent)
    fit(one_weight(), [ResultsCsv(path), FirstValidation(), last], [1.0, 1.0], ckpt_path=str(checkpoint))
    rows = read(path)
    assert [row["step"] for row in rows] == ["0", "2", "4"]
    assert rows[:2] == kept
    assert float(rows[2]["seconds"]) >= float(rows[1]["seconds"])


def test_sums_are_restored_to_each_rank_or_shared_among_others(fit, one_weight, tmp_path) -> None:
    trainer = fit(one_weight(), [], max_epochs=1)
    ranks = [{"sums": {"loss": torch.tensor(value)}, "batches": 2} for value in (1.0, 5.0)]
    checkpoint = {"results_csv": {"epoch": 3, "lr": 0.5, "ranks": ranks}}
    restored = {}
    for world_size, rank in ((2, 0), (2, 1), (1, 0), (3, 2)):
        callback = ResultsCsv(tmp_path / "results.csv")
        callback.on_load_checkpoint(
            SimpleNamespace(world_size=world_size, global_rank=rank), None, checkpoint
        )
        restored[world_size, rank] = callback._train_means(trainer)
    means = {place: row["train/loss"] for place, row in restored.items()}
    assert means == {(2, 0): 0.5, (2, 1): 2.5, (1, 0): 1.5, (3, 2): 1.5}
    assert {row["train/lr"] for row in restored.values()} == {0.5}


def test_a_new_run_in_the_same_folder_puts_the_older_file_aside(fit, one_weight, tmp_path) -> None:
    path = tmp_path / "results.csv"
    for scores in ([0.1], [0.2], [0.3]):
        fit(one_weight(scores), [ResultsCsv(path), FirstValidation()], max_epochs=1)
    assert float(read(path)[0]["val/J&F"]) == pytest.approx(0.3)
    assert float(read(tmp_path / "results-1.csv")[0]["val/J&F"]) == pytest.approx(0.1)
    assert float(read(tmp_path / "results-2.csv")[0]["val/J&F"]) == pytest.approx(0.2)


def test_columns_that_come_later_are_empty_in_earlier_rows(tmp_path) -> None:
    path = tmp_path / "results.csv"
    write_rows(path, [{"step": 0, "epoch": 0, "seconds": 0.1}, {"step": 5, "epoch": 1, "seconds": 1, "b": 2}])
    assert path.read_text().splitlines() == ["step,epoch,seconds,b", "0,0,0.1,", "5,1,1,2"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_mean_is_over_the_ranks(fit, one_weight, tmp_path) -> None:
    callback = ResultsCsv(tmp_path / "results.csv")
    module = one_weight()
    trainer = fit(module, [], max_epochs=1)
    for value in (1.0, 3.0):
        module.components = {"total": torch.tensor(value)}
        callback.on_train_batch_end(trainer, module, {}, {}, 0)
    reduced = []
    trainer.strategy.reduce = lambda values, reduce_op: reduced.append(reduce_op) or values + 1
    assert callback._train_means(trainer) == {"train/loss": 3.0}
    assert reduced == ["mean"]
