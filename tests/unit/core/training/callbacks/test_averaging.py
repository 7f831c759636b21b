"""The average of the weights: as a plain computation has it, validated, stored, resumed, left at the end."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from sam2vt.config import Config, EmaConfig
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.training.callbacks import default_callbacks
from sam2vt.core.training.callbacks.averaging import TRAINED, AverageWeights
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.stopping import _repeat_validation
from sam2vt.core.training.callbacks.validations import FinalValidation, FirstValidation
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.train import create_trainer

from .conftest import OneWeight, loader

PREFIX = "model.network."


class Plain(L.Callback):
    """Keeps the same average in double precision, from the weights that it sees after each step."""

    def __init__(self, decay: float, start_step: int = 0) -> None:
        self.decay, self.start_step = decay, start_step
        self.average: dict[str, torch.Tensor] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.validated: list[tuple[int, dict[str, torch.Tensor]]] = []
        self.expected: dict[int, dict[str, torch.Tensor]] = {}  # the average after a step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._see(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validated.append((trainer.global_step, self._of(pl_module)))

    def _see(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step in self.expected:
            return
        self.weights = self._of(module)
        begun = trainer.global_step > self.start_step
        for name, value in self.weights.items():
            before = self.average[name] if begun else value.double()
            self.average[name] = self.decay * before + (1 - self.decay) * value.double()
        self.expected[trainer.global_step] = dict(self.average)

    @staticmethod
    def _of(module: L.LightningModule) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


class ThreeTensors(OneWeight):
    """Two that train, of different sizes, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(3))
        self.frozen = torch.nn.Parameter(torch.ones(4), requires_grad=False)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        pull = ((self.bias - batch["target"] * torch.arange(3)) ** 2).mean()
        return super().training_step(batch, batch_idx) + pull


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() >= expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-5, atol=1e-6)


def read(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(folder / name, weights_only=True)


@pytest.mark.parametrize(("decay", "start_step", "accumulated"), [(0.9, 0, 1), (0.99, 13, 1), (0.9, 3, 2)])
def test_it_is_a_plain_computation_over_50_steps(fit, saver, tmp_path, decay, start_step, accumulated):
    targets = torch.randn(10 * accumulated, generator=torch.Generator().manual_seed(1)).tolist()
    module, plain = ThreeTensors(), Plain(decay, start_step)
    average = AverageWeights(decay, start_step)
    callbacks = [FinalValidation(), average, plain, FirstValidation(), saver(tmp_path / "saved")]
    fit(module, callbacks, targets, max_epochs=5, accumulate_grad_batches=accumulated)
    assert [step for step, _ in plain.validated] == [0, 10, 20, 30, 40, 50]
    for step, weights in plain.validated:
        assert_close(weights, plain.expected[step])
    saved = read(tmp_path / "saved")
    assert_close(saved["state_dict"], plain.average)
    assert all(torch.equal(saved[TRAINED][name], value) for name, value in plain.weights.items())
    assert not torch.equal(saved["state_dict"]["bias"], saved[TRAINED]["bias"])
    assert_close(dict(module.named_parameters()), plain.average)  # the fit leaves the average
    assert "frozen" not in saved[TRAINED]
    assert torch.equal(module.frozen, torch.ones(4))


def test_the_weights_that_train_are_those_of_a_run_without_it(fit):
    """Validations between the steps show the average, and change nothing of the training."""
    targets = [1.0, -2.0, 0.5]
    alone, averaged = ThreeTensors(), ThreeTensors()
    fit(alone, [FirstValidation()], targets, max_epochs=3)
    plain = Plain(0.9)
    fit(averaged, [AverageWeights(0.9), plain, FirstValidation()], targets, max_epochs=3)
    for name, value in plain.weights.items():
        assert torch.equal(value, alone.get_parameter(name)), name


class SaveEarly(L.Callback):
    """Saves before other callbacks have their turn after a step, and within a validation."""

    def __init__(self, saver: SaveCheckpoints, step: int, within: str) -> None:
        self.saver, self.step, self.within = saver, step, within

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._save(trainer, "step")

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._save(trainer, "validation")

    def _save(self, trainer: L.Trainer, where: str) -> None:
        if where == self.within and trainer.global_step == self.step:
            if where == "validation":
                _repeat_validation(trainer)
            self.saver.save(trainer, "signal")
            self.saver.wait()


@pytest.mark.parametrize("start_step", [0, 4])
@pytest.mark.parametrize(
    ("within", "stop_at"), [("step", 2), ("step", 4), ("step", 5), ("validation", 3), ("validation", 6)]
)
def test_a_run_resumes_exactly_from_wherever_it_was_saved(
    fit, saver, tmp_path, within, stop_at, start_step
) -> None:
    """Before the average begins, when it does, and after; an epoch has 3 steps."""
    targets = [1.0] * 3  # Lightning alone begins an epoch's clips again

    def run(folder: Path, *early: L.Callback, **given: Any) -> dict[str, Any]:
        module = ThreeTensors()
        callbacks = [*early, AverageWeights(0.8, start_step), FirstValidation(), saver(folder)]
        fit(module, callbacks, targets, max_epochs=4, **given)
        return {**read(folder), "module": module.state_dict()}

    kept = saver(tmp_path / "kept")
    whole = run(tmp_path / "whole", SaveEarly(kept, stop_at, within))
    kept.teardown(None, None, "fit")  # type: ignore[arg-type]
    resumed = run(tmp_path / "resumed", ckpt_path=str(tmp_path / "kept" / "last.ckpt"))
    for key in ("state_dict", TRAINED, "module"):
        assert whole[key].keys() == resumed[key].keys()
        assert not [name for name, value in whole[key].items() if not torch.equal(value, resumed[key][name])]


def test_frozen_weights_are_shared_and_the_rest_is_held_once(fit):
    module, average = ThreeTensors(), AverageWeights(0.9)
    frozen = module.frozen.data_ptr()
    fit(module, [average, FirstValidation()])
    assert sum(each.numel() for each in average._held) == 1 + 3
    assert module.frozen.data_ptr() == frozen


def test_another_fit_of_the_same_trainer_goes_on_with_the_weights_that_train(fit):
    module, plain, average = ThreeTensors(), Plain(0.9), AverageWeights(0.9)
    trainer = fit(module, [average, plain], [1.0, -2.0, 0.5], max_epochs=1)
    before = dict(plain.weights)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, loader([1.0, -2.0, 0.5]))
    assert_close(dict(module.named_parameters()), plain.average)
    alone = ThreeTensors()
    trainer = fit(alone, [], [1.0, -2.0, 0.5], max_epochs=1)
    assert all(torch.equal(alone.get_parameter(name), value) for name, value in before.items())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(alone, loader([1.0, -2.0, 0.5]))
    assert all(torch.equal(alone.get_parameter(name), value) for name, value in plain.weights.items())


@pytest.mark.parametrize(("decay", "start_step", "warns"), [(0.5, 0, False), (0.9, 0, True), (0.5, 5, True)])
def test_a_run_too_short_for_its_average_is_told(fit, caplog, decay, start_step, warns):
    caplog.set_level(logging.WARNING, "sam2vt")
    fit(OneWeight(), [AverageWeights(decay, start_step)])  # 6 steps
    assert ("stays close to where it begins" in caplog.text) == warns


@pytest.fixture
def averaged(config: Config) -> Config:
    config.model = replace(config.model, ema=EmaConfig(decay=0.5, start_step=1))
    config.trainer.limit_val_batches = 1  # type: ignore[assignment]
    return config


def test_the_average_is_validated_stored_as_best_and_exported(averaged, tmp_path) -> None:
    plain = Plain(0.5, start_step=1)
    module = SAM2LightningModule(averaged)
    create_trainer(averaged, [plain]).fit(module, datamodule=SAM2LightningDataModule(averaged))
    (_, first), (step, validated) = plain.validated
    assert step == 3
    assert first.keys() == plain.average.keys()
    assert_close(validated, plain.average)
    best = read(averaged.checkpoint_dir, "best.ckpt")
    assert best["global_step"] == 3
    assert_close(best["state_dict"], plain.average)
    assert best[TRAINED].keys() == plain.weights.keys()
    assert all(torch.equal(best[TRAINED][name], value) for name, value in plain.weights.items())
    export_checkpoint(averaged.checkpoint_dir / "best.ckpt", tmp_path / "tuned.pt")
    exported = torch.load(tmp_path / "tuned.pt", weights_only=True)["model"]
    assert all(torch.equal(value, best["state_dict"][PREFIX + name]) for name, value in exported.items())
    moved = [n for n, value in plain.weights.items() if not torch.equal(value, best["state_dict"][n])]
    assert len(moved) > 0.5 * len(plain.weights)
    again = SAM2LightningModule.load_from_checkpoint(
        averaged.checkpoint_dir / "best.ckpt", map_location="cpu"
    )
    assert_close(dict(again.named_parameters()), plain.average)


def test_it_is_off_by_default_and_has_its_place(averaged) -> None:
    assert not any(isinstance(each, AverageWeights) for each in default_callbacks(Config()))
    order = [type(each).__name__ for each in default_callbacks(averaged)]
    assert order.index("FinalValidation") < order.index("AverageWeights") < order.index("ValidationOverlays")
