"""`val_scores.csv`: the scores of each validation video and object, beside the baseline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L

from sam2vt.core.evaluation.tables import format_scores, write_scores_csv

log = logging.getLogger(__name__)


class ScoresCsv(L.Callback):
    """Writes the rows of the last validation; logs the table at the end of the fit."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the file."""
        if trainer.is_global_zero and pl_module.last_scores and not trainer.sanity_checking:
            write_scores_csv(self.path, pl_module.last_scores, pl_module.hold_first_scores or [])

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Log the table."""
        if trainer.is_global_zero and pl_module.last_scores:
            table = format_scores(pl_module.last_scores, pl_module.hold_first_scores or [])
            log.info("the last validation:\n%s", table)
