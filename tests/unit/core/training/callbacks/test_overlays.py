from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.model.tracking.session import FramePrediction
from sam2vt.core.training.callbacks import overlays
from sam2vt.core.training.callbacks.overlays import ValidationOverlays
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore


class HoldPrompt:
    """Predicts each object's prompt on every frame."""

    def __init__(self) -> None:
        self.config = Config()
        self.config.model.image_size = 64
        self.val_prompts = PromptGenerator(["mask"])
        self.videos = 0
        self.weight = torch.zeros(())
        self.seen: list[float] = []

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state, strict):
        for name, value in state.items():
            self.state_dict()[name].copy_(value)

    def propagate(self, frames, prompts, num_frames):
        self.videos += 1
        self.seen.append(float(self.weight))
        for index, _ in enumerate(frames):
            given = [p for p in prompts if p["frame_index"] <= index]
            masks = [p["mask"].float() * 20 - 10 for p in given]
            yield FramePrediction(index, [p["object_index"] for p in given], _stack(masks), None, None)


def _stack(masks):
    return torch.stack(masks) if masks else torch.empty(0, 64, 64)


@pytest.fixture
def trainer(tmp_path):
    write_sample_data(tmp_path / "data", num_videos=2, num_frames=4, size=(48, 64))
    return SimpleNamespace(
        datamodule=SimpleNamespace(val_records=load_records("auto", str(tmp_path / "data"))),
        is_global_zero=True,
        enable_validation=True,
        global_step=12,
        loggers=[],
        checkpoint_callbacks=[],
        precision_plugin=SimpleNamespace(val_step_context=nullcontext),
    )


def test_a_grid_and_a_gif_for_the_first_videos(trainer, tmp_path) -> None:
    module = HoldPrompt()
    ValidationOverlays(tmp_path / "overlays", num_videos=1).on_train_end(trainer, module)
    names = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert names == ["sample_00.gif", "sample_00.png"]
    assert module.videos == 1


@pytest.mark.parametrize(
    "change", [{"is_global_zero": False}, {"enable_validation": False}, {"num_videos": 0}]
)
def test_nothing_to_draw(trainer, tmp_path, change) -> None:
    module, number = HoldPrompt(), change.pop("num_videos", 4)
    vars(trainer).update(change)
    ValidationOverlays(tmp_path / "overlays", number).on_train_end(trainer, module)
    assert module.videos == 0
    assert not (tmp_path / "overlays").exists()


def stored(saver, folder, **scores):
    """A saver's store with a checkpoint per step, `step_<n>=score`, whose weight is the step."""
    callback = saver(folder)
    for name, score in scores.items():
        step = int(name.removeprefix("step_"))
        local = folder.parent / "local.ckpt"
        torch.save({"state_dict": {"weight": torch.tensor(float(step))}}, local)
        CheckpointStore(str(folder), keep_best=2).put(
            local, CheckpointInfo(step, 0, 0, 1, "validation", score)
        )
    return callback


@pytest.mark.parametrize(
    ("scores", "drawn", "said"),
    [
        ({"step_4": 0.9, "step_8": 0.5}, 4.0, "best checkpoint, step 4 · J&F 1.000"),
        ({"step_4": 0.5, "step_12": 0.9}, 12.0, "best checkpoint, step 12 · J&F 1.000"),
        ({"step_4": None}, 12.0, "last weights, step 12 · J&F 1.000"),
    ],
)
def test_the_best_checkpoint_is_drawn_and_the_last_weights_stay(
    trainer, saver, tmp_path, monkeypatch, scores, drawn, said
) -> None:
    notes = []
    monkeypatch.setattr(overlays.OverlayRecorder, "save", lambda self, folder, note: notes.append(note) or [])
    monkeypatch.setattr(
        overlays,
        "evaluate_video",
        lambda module, *_, on_frame: (
            module.seen.append(float(module.weight))
            or SimpleNamespace(mean=SimpleNamespace(values={"J&F": 1.0}))
        ),
    )
    trainer.checkpoint_callbacks = [stored(saver, tmp_path / "checkpoints", **scores)]
    module = HoldPrompt()
    module.weight.fill_(12)
    ValidationOverlays(tmp_path / "overlays", num_videos=1).on_train_end(trainer, module)
    assert (module.seen, notes) == ([drawn], [said])
    assert module.weight == 12


def test_a_best_checkpoint_that_cannot_be_read_is_a_warning(trainer, saver, tmp_path, caplog) -> None:
    trainer.checkpoint_callbacks = [stored(saver, tmp_path / "checkpoints", step_4=0.9)]
    (path,) = (tmp_path / "checkpoints").glob("step_*.ckpt")
    path.write_bytes(b"x" * path.stat().st_size)
    ValidationOverlays(tmp_path / "overlays", num_videos=1).on_train_end(trainer, HoldPrompt())
    assert "drawn with the last weights" in caplog.text
    assert (tmp_path / "overlays" / "sample_00.png").exists()


def test_tensorboard_gets_the_grids(trainer, tmp_path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path / "logs", name="", version="tensorboard")
    trainer.loggers = [logger]
    ValidationOverlays(tmp_path / "overlays", num_videos=2).on_train_end(trainer, HoldPrompt())
    logger.finalize("success")
    found = EventAccumulator(logger.log_dir).Reload()
    assert found.Tags()["images"] == ["overlays/sample_00", "overlays/sample_01"]
    assert [event.step for event in found.Images("overlays/sample_00")] == [12]
