"""The table of loggers: who is asked for, and one message where its package is missing."""

from __future__ import annotations

import pytest
from lightning.pytorch import loggers

from sam2vt.config import Config
from sam2vt.core.training.loggers import LOGGERS, build_loggers
from sam2vt.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "made_by", "setting"),
    [("tensorboard", "TensorBoardLogger", "trainer.logger"), ("wandb", "WandbLogger", "use_wandb")],
)
def test_a_missing_package_is_one_message(name, made_by, setting, monkeypatch) -> None:
    def missing(*_, **__) -> None:
        raise ModuleNotFoundError("No module")

    monkeypatch.setattr(loggers, made_by, missing)
    config = Config(use_wandb=name == "wandb")
    with pytest.raises(ConfigError, match=f"{setting}=true: {name} is not installed; `pip install"):
        build_loggers(config)


def test_the_setting_of_a_row_asks_for_it(monkeypatch) -> None:
    row = LOGGERS["wandb"]
    monkeypatch.setitem(LOGGERS, "mine", type(row)(lambda config: "mine", "use_mine", ""))
    config = Config()
    config.use_mine = True
    assert build_loggers(config) == ["mine"]
