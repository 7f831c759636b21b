"""A module of one weight that reports as the real one does, so that callbacks are tested alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.checkpoints.position import makes_a_step
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.updates import UpdateMeans


class OneWeight(L.LightningModule):
    """loss = (w - target)^2 a clip; J&F of the k-th validation is `scores[k]`."""

    def __init__(self, scores: list[float] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.scores = list(scores or [])
        self.num_validations = 0
        self.update_means = UpdateMeans()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        loss = ((self.weight - batch["target"]) ** 2).mean()
        self.components = {"bce": loss.detach(), "total": loss.detach()}
        self.update_means.add(self.components, completes=makes_a_step(self.trainer))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        return None

    def on_validation_epoch_end(self) -> None:
        scores = self.scores or [0.0]
        self.log("val/J&F", scores[min(self.num_validations, len(scores) - 1)])
        self.num_validations += 1


def clips(targets: list[float]) -> list[dict[str, Any]]:
    return [
        {"video_id": [f"video{i}"], "frame_indices": [[i, i + 1]], "target": torch.tensor([value])}
        for i, value in enumerate(targets)
    ]


def loader(targets: list[float]) -> DataLoader:
    return DataLoader(clips(targets), batch_size=None)  # type: ignore[arg-type]


@pytest.fixture
def one_weight() -> type[OneWeight]:
    return OneWeight


def saver(folder: Path) -> SaveCheckpoints:
    """Checkpoints in `folder`."""
    return SaveCheckpoints(CheckpointStore(str(folder)), None, folder)


@pytest.fixture(name="saver")
def _saver() -> Callable[[Path], SaveCheckpoints]:
    return saver


@pytest.fixture
def fit(tmp_path):
    """Fit a module on clips with these targets, for 2 epochs by default; returns the trainer."""

    def run(
        module: L.LightningModule,
        callbacks: list[L.Callback],
        targets: list[float] | None = None,
        ckpt_path: str | None = None,
        num_val_batches: int = 1,
        **kwargs: Any,
    ) -> L.Trainer:
        settings: dict[str, Any] = {
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks),
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        trainer = L.Trainer(callbacks=callbacks, **{**settings, **kwargs})
        trainer.fit(
            module, loader(targets or [1.0, 1.0, 1.0]), loader([0.0] * num_val_batches), ckpt_path=ckpt_path
        )
        return trainer

    return run
