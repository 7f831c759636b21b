from __future__ import annotations

import pytest
from lightning import Callback

from sam2vt.core.training.callbacks.first_validation import FirstValidation


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
    assert checkpoints.store.best().score == pytest.approx(0.3)


def test_no_validation_where_it_is_switched_off(fit, one_weight) -> None:
    module = one_weight()
    fit(module, [FirstValidation()], limit_val_batches=0)
    assert module.num_validations == 0
