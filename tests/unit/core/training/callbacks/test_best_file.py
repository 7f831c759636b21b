"""The best checkpoint, given to the loggers that store files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from sam2vt.config import Config
from sam2vt.core.training.callbacks import best_file, default_callbacks
from sam2vt.core.training.callbacks.best_file import LogBest
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore


class Given(CSVLogger):
    """Notes the checkpoints that it is given."""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def note(logger: Any, path: Path, about: dict[str, Any]) -> None:
        found.append((type(logger).__name__, path.name, path.read_bytes(), about))

    monkeypatch.setattr(best_file, "log_checkpoint", note)
    return found


def trained(saver: Any, folder: Path, root: str, scores: dict[int, float | None], **changes: Any) -> Any:
    """A trainer whose store has a checkpoint per step, with the step as its content."""
    callback = saver(folder)
    callback.store = CheckpointStore(root, keep_best=2)
    for step, score in scores.items():
        local = folder.parent / "local.ckpt"
        local.write_text(str(step))
        callback.store.put(local, CheckpointInfo(step, 0, 0, 1, "validation", score))
    known = {"is_global_zero": True, "loggers": [Given(folder.parent)], "checkpoint_callbacks": [callback]}
    return SimpleNamespace(**{**known, **changes})


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_best_one_is_given_under_its_name(saver, tmp_path: Path, given, scheme: str) -> None:
    folder = tmp_path / "checkpoints"
    trainer = trained(saver, folder, f"{scheme}{folder}", {4: 0.9, 8: 0.5})
    LogBest().on_train_end(trainer, None)  # type: ignore[arg-type]
    assert given == [("Given", "best.ckpt", b"4", {"step": 4, "score": 0.9})]


@pytest.mark.parametrize(
    ("scores", "changes"),
    [
        ({4: None}, {}),
        ({}, {}),
        ({4: 0.9}, {"is_global_zero": False}),
        ({4: 0.9}, {"checkpoint_callbacks": []}),
    ],
)
def test_nothing_to_give(saver, tmp_path: Path, given, caplog, scores, changes) -> None:
    folder = tmp_path / "checkpoints"
    LogBest().on_train_end(trained(saver, folder, str(folder), scores, **changes), None)  # type: ignore[arg-type]
    assert (given, caplog.text) == ([], "")


def test_a_checkpoint_that_cannot_be_given_is_a_warning(saver, tmp_path: Path, monkeypatch, caplog) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(best_file, "log_checkpoint", full)
    folder = tmp_path / "checkpoints"
    LogBest().on_train_end(trained(saver, folder, str(folder), {4: 0.9}), None)  # type: ignore[arg-type]
    assert "the best checkpoint could not be given to the loggers: No space left" in caplog.text


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, False),
        ({"loggers": ["csv"]}, False),
        ({"loggers": ["csv", "mlflow"]}, True),
        ({"use_wandb": True}, True),
        ({"use_wandb": True, "log_checkpoint": False}, False),
    ],
)
def test_loggers_that_store_files_are_given_it(settings, wanted) -> None:
    assert any(isinstance(each, LogBest) for each in default_callbacks(Config(**settings))) == wanted
