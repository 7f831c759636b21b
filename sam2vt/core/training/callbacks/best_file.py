"""The best checkpoint, given to the loggers that store files."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L

from sam2vt.core.storage.folder import download
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.checkpoints.store import BEST, CheckpointStore
from sam2vt.core.training.loggers.files import log_checkpoint

log = logging.getLogger(__name__)


class LogBest(L.Callback):
    """Gives `best.ckpt` to the loggers at the end of the fit, with its step and score, on rank zero."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give it; what fails is a warning, since the run has the file itself."""
        if not trainer.is_global_zero:
            return
        for saver in trainer.checkpoint_callbacks:
            if not isinstance(saver, SaveCheckpoints):
                continue
            saver.wait()
            try:
                _give(trainer, saver.store)
            except Exception as error:  # of a logger's own kind, too
                log.warning("the best checkpoint could not be given to the loggers: %s", error)


def _give(trainer: L.Trainer, store: CheckpointStore) -> None:
    best = store.best()
    if best is None:
        return
    about = {"step": best.step, "score": best.score}
    with TemporaryDirectory(prefix="sam2vt-best-") as folder:
        path, source = Path(folder) / BEST, store.path(best)
        if "://" in source:
            download(source, path)
        else:
            path.symlink_to(Path(source).absolute())
        for logger in trainer.loggers:
            log_checkpoint(logger, path, about)
