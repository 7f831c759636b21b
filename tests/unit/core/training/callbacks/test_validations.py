from __future__ import annotations

import pytest
import torch
from lightning import Callback

from sam2vt.core.training.callbacks.results_csv import ResultsCsv, read_rows
from sam2vt.core.training.callbacks.validations import (
    FinalValidation,
    FirstValidation,
    StopWithoutProgress,
)


class Record(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, float, bool]] = []

    def on_validation_end(self, trainer, pl_module) -> None:
        score = float(trainer.callback_metrics["val/J&F"])
        self.seen.append((trainer.global_step, round(score, 4), float(pl_module.weight) == 0.0))


def test_the_untrained_model_is_validated_before_the_first_step(fit, one_weight) -> None:
    record = Record()
    trainer = fit(one_weight([0.1, 0.2, 0.3]), [record, FirstValidation()])
    assert record.seen == [(0, 0.1, True), (3, 0.2, False), (6, 0.3, False)]
    assert trainer.global_step == 6


def test_a_run_that_goes_on_is_not_validated_first(fit, one_weight, saver, tmp_path) -> None:
    fit(one_weight(), [FirstValidation(), saver(tmp_path)], max_epochs=1)
    record = Record()
    path = str(tmp_path / "last.ckpt")
    fit(one_weight(), [record, FirstValidation()], max_epochs=2, ckpt_path=path)
    assert [step for step, *_ in record.seen] == [6]


def test_the_untrained_model_is_not_kept_as_best(fit, one_weight, saver, tmp_path) -> None:
    checkpoints = saver(tmp_path)
    fit(one_weight([0.9, 0.2, 0.3]), [FirstValidation(), checkpoints])
    assert checkpoints.store.describe("best.ckpt").score == pytest.approx(0.3)


def rows(tmp_path) -> list[tuple[int, int, float]]:
    return [
        (int(row["step"]), int(row["epoch"]), round(float(row["val/J&F"]), 4))
        for row in read_rows(tmp_path / "results.csv")
    ]


def test_a_run_that_ends_between_validations_is_validated_once_more(fit, one_weight, saver, tmp_path) -> None:
    module, checkpoints = one_weight([0.1, 0.2, 0.9]), saver(tmp_path)
    results = ResultsCsv(tmp_path / "results.csv")
    callbacks = [FinalValidation(), results, FirstValidation(), checkpoints]
    fit(module, callbacks, max_epochs=-1, max_steps=5)
    assert rows(tmp_path) == [(0, 0, 0.1), (3, 0, 0.2), (5, 1, 0.9)]
    assert checkpoints.store.describe("best.ckpt").score == pytest.approx(0.9)
    for name in ("best.ckpt", "last.ckpt"):
        saved = torch.load(tmp_path / name, weights_only=True)
        assert saved["global_step"] == 5
        assert saved["state_dict"]["weight"] == module.weight


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_epochs": 2}, [(3, 0), (6, 1)]),
        ({"max_epochs": -1, "max_steps": 6}, [(3, 0), (6, 1)]),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, [(6, 1), (9, 2)]),
    ],
)
def test_no_step_is_validated_twice(fit, one_weight, tmp_path, settings, expected) -> None:
    module = one_weight()
    fit(module, [FinalValidation(), ResultsCsv(tmp_path / "results.csv")], **settings)
    assert [row[:2] for row in rows(tmp_path)] == expected
    assert module.num_validations == len(expected)


def test_a_run_that_was_validated_at_its_end_goes_on_as_without(fit, one_weight, saver, tmp_path) -> None:
    """The extra validation leaves nothing in the checkpoint that changes how the run goes on."""

    def run(extra, folder, steps: int, **kwargs):
        module, last = one_weight(), saver(folder)
        callbacks = [*extra, ResultsCsv(folder / "results.csv"), FirstValidation(), last]
        fit(module, callbacks, [1.0, 3.0, 2.0], max_epochs=-1, max_steps=steps, **kwargs)
        return module.weight.item()

    weights = []
    for name in ("with", "without"):
        folder, extra = tmp_path / name, [FinalValidation()] if name == "with" else []
        run(extra, folder, 5)
        weights.append(run([], folder, 9, ckpt_path=str(folder / "last.ckpt")))
    assert weights[0] == weights[1]
    validated = [[step for step, *_ in rows(tmp_path / name)] for name in ("with", "without")]
    assert validated[0] == sorted({5, *validated[1]})


def test_weights_that_did_not_change_are_not_validated_again(fit, one_weight, tmp_path) -> None:
    """Nor does early stopping count them: it would end this run before its first update."""
    module, stopping = one_weight([0.1, 0.3, 0.2, 0.2]), StopWithoutProgress(patience=2)
    callbacks = [FinalValidation(), ResultsCsv(tmp_path / "results.csv"), stopping, FirstValidation()]
    settings = {"accumulate_grad_batches": 4, "val_check_interval": 1, "max_epochs": 3}
    trainer = fit(module, callbacks, [1.0] * 8, **settings)
    assert [step for step, *_ in rows(tmp_path)] == [0, 1, 2, 3]
    assert trainer.global_step == 3
    assert stopping.wait_count == 2


def test_the_end_of_a_run_counts_only_where_a_validation_was_due(fit, one_weight, saver, tmp_path) -> None:
    for max_steps, counted in ((4, 1), (6, 2)):
        stopping = StopWithoutProgress(patience=9)
        callbacks = [FinalValidation(), stopping, FirstValidation(), saver(tmp_path / str(max_steps))]
        fit(one_weight(), callbacks, max_epochs=-1, max_steps=max_steps)
        assert stopping.wait_count == counted


def test_a_resumed_run_has_its_own_patience(fit, one_weight, saver, tmp_path) -> None:
    stopping = StopWithoutProgress(patience=1)
    fit(one_weight(), [stopping, saver(tmp_path)], max_epochs=9)
    assert stopping.wait_count == 1
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    assert [name for name in state if name.startswith("EarlyStopping{")]
    resumed = StopWithoutProgress(patience=3)
    trainer = fit(one_weight(), [resumed], max_epochs=9, ckpt_path=str(tmp_path / "last.ckpt"))
    assert (resumed.patience, resumed.wait_count, trainer.global_step) == (3, 3, 12)


@pytest.mark.parametrize("callback", [FirstValidation, FinalValidation])
def test_no_validation_where_it_is_switched_off(fit, one_weight, callback) -> None:
    module = one_weight()
    fit(module, [callback()], limit_val_batches=0)
    assert module.num_validations == 0
