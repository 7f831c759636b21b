from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.stopping import SaveOnSigterm
from sam2vt.core.training.callbacks.validations import FirstValidation
from sam2vt.core.training.checkpoints.store import CheckpointStore


class SignalAt(L.Callback):
    """Sends this process SIGTERM while a batch is trained or validated."""

    def __init__(self, step: int, validating: bool = False) -> None:
        self.step, self.validating, self.sent = step, validating, False

    def _send(self, trainer) -> None:
        if trainer.global_step >= self.step and trainer.validating == self.validating and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_end(self, trainer, *args) -> None:
        self._send(trainer)

    def on_validation_batch_start(self, trainer, *args) -> None:
        self._send(trainer)


class CountValidation(L.Callback):
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.ends = 0

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        self.batches.append(batch_idx)

    def on_validation_end(self, trainer, pl_module) -> None:
        self.ends += 1


def saving(folder: Path) -> SaveCheckpoints:
    return SaveCheckpoints(CheckpointStore(str(folder)), None, folder)


def stop(fit, module, tmp_path, *callbacks, **kwargs) -> dict:
    with pytest.raises(SystemExit) as caught:
        fit(module, [*callbacks, SaveOnSigterm(), saving(tmp_path)], **kwargs)
    assert caught.value.code == 143
    return torch.load(tmp_path / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_saves_and_exits_with_143_and_goes_on_to_the_same_weights(fit, one_weight, tmp_path, step) -> None:
    saved = stop(fit, one_weight(), tmp_path, SignalAt(step))
    assert saved["global_step"] == step

    whole, resumed = one_weight(), one_weight()
    fit(whole, [])
    trainer = fit(resumed, [saving(tmp_path)], ckpt_path=str(tmp_path / "last.ckpt"))
    assert trainer.global_step == 6
    assert torch.equal(whole.weight, resumed.weight)


def test_a_signal_during_the_last_step_still_gives_143(fit, one_weight, tmp_path) -> None:
    assert stop(fit, one_weight(), tmp_path, SignalAt(6))["global_step"] == 6


def test_an_interrupted_validation_is_done_again_as_a_whole(fit, one_weight, tmp_path) -> None:
    seen, again = CountValidation(), CountValidation()
    saved = stop(fit, one_weight(), tmp_path, SignalAt(3, validating=True), seen, num_val_batches=3)
    assert (saved["global_step"], seen.batches, seen.ends) == (3, [0], 0)

    callbacks = [again, saving(tmp_path)]
    trainer = fit(one_weight(), callbacks, ckpt_path=str(tmp_path / "last.ckpt"), num_val_batches=3)
    assert (trainer.global_step, again.batches, again.ends) == (6, [0, 1, 2] * 2, 2)


def test_a_signal_during_the_first_validation_saves_step_0(fit, one_weight, tmp_path) -> None:
    signal_at = SignalAt(0, validating=True)
    saved = stop(fit, one_weight(), tmp_path, signal_at, FirstValidation(), num_val_batches=2)
    assert saved["global_step"] == 0

    again = CountValidation()
    path = str(tmp_path / "last.ckpt")
    callbacks = [again, FirstValidation(), saving(tmp_path)]
    trainer = fit(one_weight(), callbacks, ckpt_path=path, num_val_batches=2)
    assert (trainer.global_step, again.ends) == (6, 3)


def test_other_exceptions_do_not_save(fit, one_weight, tmp_path) -> None:
    class Fails(L.Callback):
        def on_train_batch_end(self, *args) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(one_weight(), [Fails(), SaveOnSigterm(), saving(tmp_path)])
    assert not (tmp_path / "last.ckpt").exists()
