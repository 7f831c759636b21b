"""`preview.png`: the first clips that a run trains on, as the model gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device

from sam2vt.core.data.clips.sampling import sample_at
from sam2vt.core.data.dataset import object_names
from sam2vt.core.evaluation.sheets import draw_sheet
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import Batch, Clip

_MASKS = ("masks", "valid_masks")
_LISTS = ("prompts", "video_id", "frame_indices", "object_ids", "original_size", "num_objects")


class FirstBatches(L.Callback):
    """Draws the clips of the first batches of rank zero, `number` of them, once.

    A run that resumes keeps the picture that it has. Batches without frames, as of a feature cache, and those
    of a loader of the user's own that lack a field, are not drawn.
    """

    def __init__(self, path: Path, number: int = 4, style: str = "paper") -> None:
        self.path = path
        self.number = number
        self.style = style
        self._clips: list[Clip] = []
        self._is_done = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out the drawing on other ranks and in a resumed run."""
        self._is_done = not trainer.is_global_zero or trainer.global_step > 0

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Keep the batch's clips, and draw once there are enough."""
        if self._is_done:
            return
        if {"images", *_MASKS, *_LISTS} <= batch.keys() and batch["images"].dtype == torch.uint8:
            self._clips += clips_of(batch, self.number - len(self._clips))
        if len(self._clips) >= self.number:
            self._draw(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw what a short run has trained on."""
        if not self._is_done and self._clips:
            self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        clips, self._clips, self._is_done = self._clips, [], True
        with write_whole(self.path) as written:
            draw_sheet(clips, self._names(trainer, clips), self.style).save(written, format="PNG")

    def _names(self, trainer: L.Trainer, clips: list[Clip]) -> dict[str, dict[int, Any]]:
        """Return the names of the clips' objects by video."""
        data: Any = getattr(trainer, "datamodule", None)
        records = getattr(data, "train_records", None)
        if not records:  # the user's own data
            return {}
        settings = data.config.dataset
        how = (len(records), settings.clips_per_video, data.config.seed, settings.shuffle)
        # All that rank zero may have been given by now.
        given = (self.number + settings.batch_size) * trainer.world_size
        return object_names(settings, records, [sample_at(place, *how) for place in range(given)], clips)


def clips_of(batch: Batch, most: int) -> list[Clip]:
    """Return the first clips of a batch, at most so many, on the CPU and without padded slots."""
    fields: dict[str, Any] = {**batch}
    held = move_data_to_device({name: fields[name][:most] for name in ("images", *_MASKS, *_LISTS)}, "cpu")
    clips: list[Any] = []
    for i, objects in enumerate(held["num_objects"]):
        masks = {name: held[name][i][:, :objects] for name in _MASKS}
        clips.append({"images": held["images"][i], **masks, **{name: held[name][i] for name in _LISTS}})
    return clips
