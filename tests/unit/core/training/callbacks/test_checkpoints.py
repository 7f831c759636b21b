from __future__ import annotations

import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.training.callbacks.checkpoints import checkpoint_callbacks, early_stopping
from sam2vt.core.training.callbacks.first_validation import FirstValidation


@pytest.fixture
def config(tmp_path) -> Config:
    config = Config(output_dir=str(tmp_path / "run"))
    config.trainer.early_stopping_patience = 2
    return config


def test_best_follows_jf_and_last_is_the_last(fit, one_weight, config, tmp_path) -> None:
    scores = [0.9, 0.2, 0.5, 0.4]  # the first is of the model before any step
    fit(one_weight(scores), [FirstValidation(), *checkpoint_callbacks(config)], max_epochs=3)
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    best = torch.load(folder / "best.ckpt", weights_only=True)
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert (best["global_step"], last["global_step"]) == (6, 9)
    states = [state for name, state in last["callbacks"].items() if "val/J&F" in name]
    assert float(states[0]["best_model_score"]) == pytest.approx(0.5)


def test_a_resumed_run_keeps_the_best_of_before(fit, one_weight, config, tmp_path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    fit(one_weight([0.9, 0.3]), checkpoint_callbacks(config), max_epochs=2)
    last = str(folder / "last.ckpt")
    fit(one_weight([0.5, 0.6]), checkpoint_callbacks(config), max_epochs=4, ckpt_path=last)
    assert torch.load(folder / "best.ckpt", weights_only=True)["global_step"] == 3
    assert torch.load(last, weights_only=True)["global_step"] == 12


def test_last_is_saved_at_the_end_where_no_validation_came(fit, one_weight, config, tmp_path) -> None:
    fit(one_weight(), checkpoint_callbacks(config), max_epochs=-1, max_steps=2)
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2


def test_save_dir_and_enable_checkpointing(config, tmp_path) -> None:
    config.save_dir = str(tmp_path / "elsewhere")
    assert {str(c.dirpath) for c in checkpoint_callbacks(config)} == {str(tmp_path / "elsewhere")}
    config.trainer.enable_checkpointing = False
    assert checkpoint_callbacks(config) == []


def test_early_stopping_counts_from_the_untrained_model(fit, one_weight, config) -> None:
    scores = [0.5, 0.4, 0.4, 0.9]
    trainer = fit(one_weight(scores), [FirstValidation(), *early_stopping(config)], max_epochs=5)
    assert trainer.global_step == 6


def test_no_early_stopping_without_patience(config) -> None:
    config.trainer.early_stopping_patience = None
    assert early_stopping(config) == []
