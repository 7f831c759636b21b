from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.multiprocessing import ProcessRaisedException
from torch.overrides import TorchFunctionMode

from sam2vt.core.training.callbacks.log_lines import LogLines
from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite
from sam2vt.core.training.callbacks.throughput import Throughput
from sam2vt.errors import TrainingError

from ...operations import Operations

NAN = float("nan")


def test_stops_before_the_update_and_names_step_and_clip(fit, one_weight) -> None:
    module = one_weight()
    weights = []
    module.on_before_zero_grad = lambda optimizer: weights.append(module.weight.item())
    with pytest.raises(TrainingError, match=r"step 3: loss nan on video2 frames \[2, 3\]") as error:
        fit(module, [StopOnNonFinite()], [1.0, 1.0, NAN, 1.0])
    assert error.value.exit_code == 3
    # Two steps of 0.1 on (w - 1)^2, and no third.
    assert module.weight.item() == pytest.approx(0.36)


def test_a_fault_in_an_earlier_clip_of_an_accumulated_step_is_named(fit, one_weight) -> None:
    module = one_weight()
    with pytest.raises(TrainingError, match=r"step 1: loss nan on video0 frames \[0, 1\]\."):
        fit(module, [StopOnNonFinite()], [NAN, 1.0, 1.0], accumulate_grad_batches=3)
    assert module.weight.item() == 0.0


def test_a_non_finite_gradient_of_a_finite_loss_stops_too(fit, one_weight) -> None:
    class Root(one_weight):
        def training_step(self, batch, batch_idx):
            loss = self.weight.abs().sqrt().sum()  # the slope at 0 is infinite
            return {"loss": loss, "components": {"total": loss.detach()}}

    module = Root()
    with pytest.raises(TrainingError, match="gradient norm nan with a finite loss, on video0"):
        fit(module, [StopOnNonFinite()])
    assert module.weight.item() == 0.0


@pytest.fixture
def fused(one_weight):
    """The module with an optimizer that skips updates on the device."""

    class Fused(one_weight):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.1, fused=True)

    return Fused


class ReadsOnHost(Exception):
    pass


class NoHostFunctions(TorchFunctionMode):
    """Raises where a tensor's value is asked for by a method that only the host can answer."""

    READS = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__bool__)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.READS:
            raise ReadsOnHost(function.__name__)
        return function(*args, **(kwargs or {}))


class Watch(L.Callback):
    """Forbids reads from a batch's start to `end`, but for the steps of `logged`."""

    def __init__(self, logged: set[int]) -> None:
        self.logged, self.modes, self.watched = logged, [], []

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step + 1 not in self.logged:
            self.modes = [NoHostFunctions(), Operations(refuse=ReadsOnHost)]
            self.watched.append(trainer.global_step + 1)
            for mode in self.modes:
                mode.__enter__()

    def end(self) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(None, None, None)
        self.modes = []


class EndWatch(L.Callback):
    """Comes after the callbacks that are watched."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_end(self, *args) -> None:
        self.watch.end()


def test_no_step_waits_for_the_device_but_where_it_is_logged(fit, fused) -> None:
    watch = Watch(logged={3, 6})
    callbacks = [watch, StopOnNonFinite(), Throughput(), LogLines(), EndWatch(watch)]
    fit(fused(), callbacks, max_epochs=2, log_every_n_steps=3)
    assert watch.watched == [1, 2, 4, 5]


def test_the_watch_sees_a_read(fit, fused) -> None:
    class Reads(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, *args) -> None:
            float(outputs["loss"])

    watch = Watch(logged=set())
    with pytest.raises(ReadsOnHost):
        fit(fused(), [watch, Reads(), EndWatch(watch)])
    watch.end()


def test_updates_after_a_bad_one_are_skipped_until_a_logged_step_names_it(fit, fused) -> None:
    module, weights, steps = fused(), [], []

    class Note(L.Callback):
        def on_train_batch_end(self, trainer, module, *args) -> None:
            weights.append(module.weight.item())
            steps.append([s["step"].item() for s in trainer.optimizers[0].state.values()])

    with pytest.raises(TrainingError) as error:
        fit(module, [StopOnNonFinite(), Note()], [1.0, NAN, 1.0, NAN, 1.0, 1.0], log_every_n_steps=5)
    assert str(error.value).startswith(
        "step 2: loss nan on video1 frames [1, 2]. The run stopped without this update and those up to "
        "step 5, the weights are those of step 1."
    )
    assert len(set(weights)) == 1
    assert weights[0] != 0
    assert steps == [[1.0]] * 4
    assert module.weight.item() == weights[0]


def test_nothing_is_saved_of_a_bad_step(fit, fused, tmp_path) -> None:
    every_two = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    with pytest.raises(TrainingError, match="step 3: loss nan on video2"):
        fit(fused(), [StopOnNonFinite(), every_two], [1.0, 1.0, NAN, 1.0, 1.0], log_every_n_steps=50)
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step=2.ckpt"]


@pytest.mark.parametrize("num_val_batches", [1, 0])
def test_a_validation_or_the_end_of_the_fit_reads_too(fit, fused, num_val_batches) -> None:
    settings = {"limit_val_batches": num_val_batches, "max_epochs": 1, "log_every_n_steps": 50}
    module = fused()
    with pytest.raises(TrainingError, match="step 3: loss nan on video2"):
        fit(module, [StopOnNonFinite()], [1.0, 1.0, NAN], **settings)
    assert module.num_validations == 0


def test_once_it_has_raised_it_always_does(fit, fused) -> None:
    guard = StopOnNonFinite()
    with pytest.raises(TrainingError) as first:
        fit(fused(), [guard], [NAN, 1.0, 1.0], log_every_n_steps=2)
    with pytest.raises(TrainingError) as second:
        guard.on_save_checkpoint(None, None, {})
    assert first.value is second.value


class Note(StopOnNonFinite):
    """Writes down what a rank stopped with."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_before_optimizer_step(self, trainer, *args) -> None:
        try:
            super().on_before_optimizer_step(trainer, *args)
        except TrainingError as error:
            (self.folder / str(trainer.global_rank)).write_text(str(error))
            dist.barrier()  # the first rank that ends takes the others with it
            raise


@pytest.mark.parametrize("scaled", [False, True])
def test_all_ranks_stop_and_say_whose_clip_it_was(fit, one_weight, tmp_path, scaled) -> None:
    class OnRankOne(one_weight):
        def on_train_start(self) -> None:
            if scaled:  # then a gradient that is not finite tells rank 0 nothing
                self.trainer.precision_plugin.scaler = object()

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * NAN if self.global_rank == 1 and batch_idx == 1 else loss

    settings = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": False}
    with pytest.raises(ProcessRaisedException):
        fit(OnRankOne(), [Note(tmp_path)], **settings)
    for rank in "01":
        message = (tmp_path / rank).read_text()
        assert message.startswith("step 2: rank 1: loss nan on video1 frames [1, 2]. The run")


def test_finite_training_goes_through_unchanged(fit, one_weight) -> None:
    with_check, without = one_weight(), one_weight()
    fit(with_check, [StopOnNonFinite()], [1.0, 3.0])
    fit(without, [], [1.0, 3.0])
    assert torch.equal(with_check.weight, without.weight)


def test_only_gradients_that_an_update_uses_are_looked_at(fit, one_weight) -> None:
    class WithAnother(one_weight):
        def __init__(self) -> None:
            super().__init__()
            self.another = torch.nn.Parameter(torch.zeros(1))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([self.weight], lr=0.1)

        def on_after_backward(self) -> None:
            self.another.grad = torch.full((1,), NAN)

    module = WithAnother()
    fit(module, [StopOnNonFinite()], [1.0, 3.0], gradient_clip_val=0.5)
    assert 0 < module.weight.item() < 1
