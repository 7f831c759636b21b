"""Pictures of prediction against ground truth for a few validation videos, at the end of the fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch

from sam2vt.core.evaluation.overlays import OverlayRecorder
from sam2vt.core.evaluation.video import evaluate_video

log = logging.getLogger(__name__)


class ValidationOverlays(L.Callback):
    """Draws a PNG grid and a short GIF for each of the first `num_videos` validation videos.

    Rank zero draws with the last weights while the other ranks wait for it at the last checkpoint. Keep
    `num_videos` small where videos are long: a process group gives up after its timeout.
    """

    def __init__(self, folder: Path, num_videos: int) -> None:
        self.folder = folder
        self.num_videos = num_videos

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Propagate and draw, on rank zero."""
        data = getattr(trainer, "datamodule", None)  # None: loaders of the user's own, of clips
        records = getattr(data, "val_records", [])[: self.num_videos]
        if not trainer.is_global_zero or not trainer.enable_validation or not records:
            return
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            for record in records:
                recorder = OverlayRecorder(record)
                arguments = (pl_module.config.model.image_size, pl_module.val_prompts, pl_module.config.seed)
                evaluate_video(pl_module, record, *arguments, on_frame=recorder)
                recorder.save(self.folder, note=f"step {trainer.global_step}")
        log.info("overlays of %d videos: %s", len(records), self.folder)
