"""Clips that could not be made: each is listed in a file, and too many of them end the run."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from sam2vt.core.storage.disk import write_whole
from sam2vt.core.training.checkpoints.position import logs_this_step, makes_a_step
from sam2vt.core.training.ranks import gather_objects
from sam2vt.core.types import Batch
from sam2vt.errors import TrainingError

log = logging.getLogger(__name__)

LIMIT = 0.01  # share of an epoch's clips that may be quarantined; one clip always may
_NAMED = 5  # videos that the message names

BadClip = dict[str, Any]  # epoch, index, video_id, source, error


class Quarantine(L.Callback):
    """Keeps `quarantine.jsonl`, one line per clip that came blank because it could not be made.

    `used` and `entries` count all ranks' clips in completed steps, up to the last logged step, validation
    or checkpoint; together they are all clips that the run has had. Every checkpoint holds them, so that
    a resumed run counts each clip once. Raises TrainingError on all ranks where the entries of an epoch
    are more than `LIMIT` of its clips.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.used = 0
        self.entries: list[BadClip] = []
        self._num_written = 0  # entries that the file holds
        self._made: tuple[int, list[BadClip]] = (0, [])  # of this rank, in steps not yet joined
        self._waiting: tuple[int, list[BadClip]] = (0, [])  # of this rank, in the step being made

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rewrite the file: lines of an earlier try at these steps do not count."""
        if trainer.is_global_zero:
            self.path.unlink(missing_ok=True)
            if self.entries:
                self._write()

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, batch: Batch, *rest: Any) -> None:
        """Note the batch's clips; join the ranks' on logged steps."""
        bad = batch.get("quarantined", [])
        # Blank clips that fill up a step are no clips of the data.
        used = sum(frames[0] >= 0 for frames in batch["frame_indices"])
        self._waiting = (self._waiting[0] + used, [*self._waiting[1], *bad])
        if makes_a_step(trainer):
            self._made = (self._made[0] + self._waiting[0], [*self._made[1], *self._waiting[1]])
            self._waiting = (0, [])
        if logs_this_step(trainer):
            self._look(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """List the clips that any rank has quarantined since the last look."""
        if not trainer.sanity_checking:
            self._look(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """List the rest, and log how many clips were used and quarantined."""
        self._look(trainer)
        if trainer.is_global_zero:
            bad, listed = len(self.entries), f", listed in {self.path}" if self.entries else ""
            log.info("%d clips: %d used, %d quarantined%s", self.used + bad, self.used, bad, listed)

    def state_dict(self) -> dict[str, Any]:
        """Return the clips of all ranks; every rank must take part."""
        self._join()
        return {"used": self.used, "entries": self.entries}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the clips; those of unfinished steps come again."""
        self.used, self.entries = state_dict["used"], list(state_dict["entries"])
        self._made = self._waiting = (0, [])

    def _join(self) -> None:
        """Add what the ranks have seen since the last time; every rank must take part."""
        parts = gather_objects(self._made)
        self._made = (0, [])
        new = [entry for _, entries in parts for entry in entries]
        self.used += sum(used for used, _ in parts)
        self.entries = sorted([*self.entries, *new], key=lambda entry: (entry["epoch"], entry["index"]))

    def _look(self, trainer: L.Trainer) -> None:
        """Join the ranks' clips, write new ones down, and stop if they are too many."""
        self._join()
        if trainer.is_global_zero and len(self.entries) > self._num_written:
            worst, error = _worst(self.entries)[0]
            log.warning(
                "%d clips quarantined so far, listed in %s; most of them of video %s: %s",
                *(len(self.entries), self.path, worst, error),
            )
            self._write()
        datamodule = getattr(trainer, "datamodule", None)
        check_share(self.entries, getattr(datamodule, "clips_per_epoch", None), self.path)

    def _write(self) -> None:
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.entries]
        with write_whole(self.path) as written:
            written.write_text("".join(lines), encoding="utf-8")
        self._num_written = len(self.entries)


def check_share(entries: Sequence[BadClip], clips_per_epoch: float | None, path: Path) -> None:
    """Raise TrainingError where more than `LIMIT` of an epoch's clips are quarantined; one always may be."""
    if clips_per_epoch is None or not math.isfinite(clips_per_epoch):
        return
    allowed = max(1, int(LIMIT * clips_per_epoch))
    for epoch, number in Counter(entry["epoch"] for entry in entries).items():
        if number <= allowed:
            continue
        worst = _worst([entry for entry in entries if entry["epoch"] == epoch])
        named = "; ".join(f"video {video}: {error}" for video, error in worst[:_NAMED])
        raise TrainingError(
            f"{number} clips of epoch {epoch} are quarantined, of {clips_per_epoch:.0f}; allowed is "
            f"{LIMIT:.0%}, here {allowed}. {path} lists them. Repair or leave out these videos: {named}"
        )


def _worst(entries: Sequence[BadClip]) -> list[tuple[str, str]]:
    """(video, its first error), those with the most entries first."""
    errors = {entry["video_id"]: entry["error"] for entry in reversed(entries)}
    counts = Counter(entry["video_id"] for entry in entries)
    return [(video, errors[video]) for video, _ in counts.most_common()]
