from __future__ import annotations

import sys

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar

from sam2vt.config import Config
from sam2vt.core.training.callbacks import default_callbacks
from sam2vt.core.training.callbacks.log_lines import LogLines


def names(config: Config) -> list[str]:
    return [type(callback).__name__ for callback in default_callbacks(config)]


def test_order() -> None:
    config = Config()
    config.trainer.early_stopping_patience = 3
    order = names(config)
    assert order.index("ResultsCsv") < order.index("ResultsPlot")
    assert order.index("ResultsCsv") < order.index("FirstValidation")
    for reports_at_the_end in ("Throughput", "ScoresCsv", "ValidationOverlays"):
        assert order.index("FinalValidation") < order.index(reports_at_the_end)
    assert order[-3:] == ["SaveOnSigterm", "FirstValidation", "SaveCheckpoints"]
    assert {"StopOnNonFinite", "SaveOnSigterm", "Throughput", "ScoresCsv", "ValidationOverlays"} <= set(order)


def test_settings_that_switch_callbacks() -> None:
    config = Config()
    assert not any(isinstance(callback, EarlyStopping) for callback in default_callbacks(config))
    config.trainer.early_stopping_patience = 4
    (stopping,) = [c for c in default_callbacks(config) if isinstance(c, EarlyStopping)]
    assert (stopping.patience, stopping.monitor, stopping.mode) == (4, "val/J&F", "max")
    config.trainer.enable_checkpointing = False
    assert "SaveCheckpoints" not in names(config)


@pytest.mark.parametrize(
    ("enabled", "terminal", "lines", "refresh_rates"),
    [(True, True, 0, [1]), (True, False, 1, [0]), (False, True, 1, []), (False, False, 1, [])],
)
def test_a_bar_or_lines_but_not_both(monkeypatch, enabled, terminal, lines, refresh_rates) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    config = Config()
    config.trainer.enable_progress_bar = enabled
    callbacks = default_callbacks(config)
    assert sum(isinstance(callback, LogLines) for callback in callbacks) == lines
    assert [c.refresh_rate for c in callbacks if isinstance(c, ProgressBar)] == refresh_rates
