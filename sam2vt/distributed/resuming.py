"""Where a run goes on after a failure, or from an earlier run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray.train

from sam2vt.distributed.plan import StreamPlan

LAST = "last.ckpt"
# Under this name Lightning files the state of the data module, which holds the position in the clips.
DATA_STATE = "SAM2LightningDataModule"


@contextmanager
def newest_checkpoint(resume: str | None) -> Iterator[str | None]:
    """The training checkpoint to go on from: this run's newest, after a failure, else `resume`."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield resume
        return
    with checkpoint.as_directory() as folder:
        yield str(Path(folder) / LAST)


def first_step_of(plan: StreamPlan, resume: str | None) -> int:
    """The step after the last one of the training checkpoint `resume`; 0 without one."""
    if resume is None:
        return 0
    from sam2vt.core.model.weights import read_checkpoint

    position = read_checkpoint(resume).get(DATA_STATE)
    return plan.step_at(position["epoch"], position["clips"]) if position else 0
