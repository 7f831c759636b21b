"""The bar; tests of the lines are among those of the throughput that they show."""

from __future__ import annotations

import pytest

from sam2vt.core.training.callbacks.log_lines import Bar


def test_the_bar_shows_a_mean_loss_and_no_name_of_a_folder(fit, one_weight, tmp_path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger

    shown: list[dict[str, str]] = []

    class Watched(Bar):
        def get_metrics(self, trainer, pl_module):
            shown.append(super().get_metrics(trainer, pl_module))
            return shown[-1]

    logger = TensorBoardLogger(tmp_path, name="", version="tensorboard")
    settings = {"max_epochs": 1, "log_every_n_steps": 2, "logger": logger, "enable_progress_bar": True}
    # Losses 1, 0.64, 0.41, 0.262: of the weight's way to 1.
    fit(one_weight(), [Watched()], [1.0] * 4, num_val_batches=0, **settings)
    losses = [each.get("loss") for each in shown]
    assert losses[:4] == [None, "0.820", "0.820", "0.578"]
    assert not any("v_num" in each for each in shown)


def test_scores_have_three_digits(fit, one_weight, capsys: pytest.CaptureFixture[str]) -> None:
    class Scored(one_weight):
        def on_validation_epoch_end(self) -> None:
            self.log("val/J&F", 0.71349, prog_bar=True)

    fit(Scored(), [Bar()], max_epochs=1, log_every_n_steps=1, enable_progress_bar=True)
    assert "val/J&F=0.713]" in capsys.readouterr().out
