"""Pictures of prediction against ground truth for a few validation videos, at the end of the fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch

from sam2vt.core.evaluation.overlays import OverlayRecorder
from sam2vt.core.evaluation.video import evaluate_video
from sam2vt.core.model.checkpoints import read_checkpoint
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.loggers.files import log_picture
from sam2vt.errors import CheckpointError

log = logging.getLogger(__name__)


class ValidationOverlays(L.Callback):
    """Draws a PNG grid and a short GIF for each of the first `num_videos` validation videos.

    Rank zero draws with the weights of the best checkpoint, else with the last, while the other ranks wait
    for it at the last checkpoint. Keep `num_videos` small where videos are long: a process group gives up
    after its timeout. Loggers that show pictures get the grids, too.
    """

    def __init__(self, folder: Path, num_videos: int, style: str = "paper") -> None:
        self.folder = folder
        self.num_videos = num_videos
        self.style = style

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Propagate and draw, on rank zero."""
        data = getattr(trainer, "datamodule", None)  # None: loaders of the user's own, of clips
        records = getattr(data, "val_records", [])[: self.num_videos]
        if not trainer.is_global_zero or not trainer.enable_validation or not records:
            return
        with (
            torch.no_grad(),
            trainer.precision_plugin.val_step_context(),
            _best_weights(trainer, pl_module) as (step, weights),
        ):
            config = pl_module.config
            for record in records:
                recorder = OverlayRecorder(record, style=self.style)
                how = (config.model.image_size, pl_module.val_prompts, config.seed)
                both_ends = config.valdataset.score_first_and_last
                result = evaluate_video(pl_module, record, *how, both_ends, on_frame=recorder)
                note = f"{weights}, step {step} · J&F {result.mean.values['J&F']:.3f}"
                paths = recorder.save(self.folder, note)
                for logger in trainer.loggers if paths else ():
                    log_picture(logger, f"overlays/{record.video_id}", paths[0], step)
        log.info("overlays of %d videos (%s, step %d): %s", len(records), weights, step, self.folder)


@contextmanager
def _best_weights(trainer: L.Trainer, module: L.LightningModule) -> Iterator[tuple[int, str]]:
    """Give the module the weights of the best checkpoint during the block; yields their step and name.

    They stay the last ones where no checkpoint has a score, or the best cannot be read.
    """
    step, content = _best_checkpoint(trainer)
    own = {name: value.clone() for name, value in module.state_dict().items() if name in content}
    module.load_state_dict(content, strict=False)
    try:
        yield (trainer.global_step, "last weights") if step is None else (step, "best checkpoint")
    finally:
        module.load_state_dict(own, strict=False)


def _best_checkpoint(trainer: L.Trainer) -> tuple[int | None, dict[str, Any]]:
    """Return the best checkpoint's step, None without one, and its weights where the last are others."""
    for saver in trainer.checkpoint_callbacks:
        if not isinstance(saver, SaveCheckpoints):
            continue
        saver.wait()
        try:
            best = saver.store.best()
            if best is None or best.step == trainer.global_step:
                return (None if best is None else best.step), {}
            return best.step, read_checkpoint(saver.store.path(best))["state_dict"]
        except (OSError, CheckpointError) as error:
            log.warning("overlays are drawn with the last weights, the best cannot be read: %s", error)
    return None, {}
