"""A hundred training losses repeat: what changes them changes what a training learns.

A change that is meant to is recorded with `python tests/golden/test_losses.py`, and says why.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import lightning as L
import pytest
import torch

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.train import build_trainer

RECORD = Path(__file__).with_name("losses.json")
STEPS = 100
# Processors sum in other orders. That grows over the steps, and jumps where another of three masks becomes
# the best or a click falls on another pixel.
FIRST, FIRST_TOLERANCE = 10, 1e-4
MEDIAN_TOLERANCE = 1e-3
TOLERANCE = 3e-2
SETTINGS = (
    "model=nano",
    "trainer=cpu",
    "model.num_correction_clicks=1",
    "model.recompute=[memory_encoder]",
    "max_objects=2",
    "dataset.video_clip_length=3",
    "dataset.num_workers=0",
    "dataset.max_frame_stride=2",
    "dataset.prompt_types=[point,box,mask]",
    "dataset.clips_per_video=50",
    "optimizer.lr=2e-4",
    "scheduler.warmup_steps=10",
    f"trainer.max_steps={STEPS}",
    "trainer.gradient_clip_val=1.0",
    "trainer.limit_val_batches=0",
    "trainer.enable_checkpointing=false",
    "trainer.enable_progress_bar=false",
    "trainer.logger=false",
)


class _Losses(L.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))


def losses(folder: Path, *further: str) -> list[float]:
    """Of a training on two generated videos, from random weights, with one thread."""
    write_sample_data(folder / "data", num_videos=2, num_frames=24, size=(96, 128))
    overrides = [*SETTINGS, *further, f"dataset.data_path={folder / 'data'}", f"output_dir={folder / 'run'}"]
    config = load_config(compose_config(overrides))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        L.seed_everything(config.seed, workers=True, verbose=False)
        seen = _Losses()
        trainer = build_trainer(config, [seen])
        trainer.fit(SAM2LightningModule(config), datamodule=SAM2LightningDataModule(config))
    finally:
        torch.set_num_threads(threads)
    return seen.values


@pytest.mark.parametrize(("speedups", "steps"), [("auto", STEPS), ("none", 40)])
def test_the_losses_repeat(speedups: str, steps: int, tmp_path) -> None:
    expected = json.loads(RECORD.read_text())[:steps]
    lengths = (f"trainer.max_steps={steps}", f"scheduler.T_max={STEPS}")
    found = losses(tmp_path, f"model.speedups={speedups}", *lengths)
    assert len(found) == len(expected) == steps
    assert found[:FIRST] == pytest.approx(expected[:FIRST], rel=FIRST_TOLERANCE)
    assert found == pytest.approx(expected, rel=TOLERANCE)
    assert median(abs(a / b - 1) for a, b in zip(found, expected)) < MEDIAN_TOLERANCE


def test_the_record_is_of_a_training_that_learns() -> None:
    expected = json.loads(RECORD.read_text())
    assert sum(expected[-20:]) < 0.8 * sum(expected[:20])


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        RECORD.write_text(json.dumps([round(loss, 7) for loss in losses(Path(name))], indent=0) + "\n")
