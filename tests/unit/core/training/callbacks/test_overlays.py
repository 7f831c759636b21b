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
from sam2vt.core.training.callbacks.overlays import ValidationOverlays


class HoldPrompt:
    """Predicts each object's prompt on every frame."""

    def __init__(self) -> None:
        self.config = Config()
        self.config.model.image_size = 64
        self.val_prompts = PromptGenerator(["mask"])
        self.videos = 0

    def propagate(self, frames, prompts, num_frames):
        self.videos += 1
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
