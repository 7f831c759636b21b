from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessRaisedException

from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite, gradient_norm
from sam2vt.errors import TrainingError

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
            outputs = super().training_step(batch, batch_idx)
            if self.global_rank == 1 and batch_idx == 1:
                outputs["loss"] = outputs["loss"] * NAN
            return outputs

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


def test_gradient_norm_leaves_the_gradient_as_it_is() -> None:
    module = torch.nn.Linear(2, 1)
    assert gradient_norm(module) == 0
    module.weight.grad = torch.tensor([[3.0, 0.0]])
    module.bias.grad = torch.tensor([4.0])
    assert gradient_norm(module) == 5
    assert module.weight.grad.tolist() == [[3.0, 0.0]]
