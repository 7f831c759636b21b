"""Keep the position of a run in its sequence of clips, and read Lightning's counters of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import lightning as L
from torch.utils.data import Sampler

from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.training.checkpoints.store import DATA_STATE
from sam2vt.core.types import SampleKey


class Position(NamedTuple):
    """The next clip to train on: its epoch, and the number of clips before it, over all ranks."""

    epoch: int
    clips: int

    def advanced(self, clips: int, clips_per_epoch: float) -> Position:
        """Return the position this many clips later; the end of an epoch is the beginning of the next."""
        # As integers: without a limit `clips_per_epoch` is infinite, and the parts are floats.
        epochs, left = map(int, divmod(self.clips + clips, clips_per_epoch))
        return Position(self.epoch + epochs, left)


def batches_since_step(trainer: L.Trainer) -> int:
    """Return how many batches of this epoch wait for the next update; checkpoints contain no gradients."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if progress.is_last_batch or progress.current.ready == trainer.num_training_batches:
        return 0  # an epoch's last batch always makes a step
    return progress.current.ready % trainer.accumulate_grad_batches


def logs_this_step(trainer: L.Trainer) -> bool:
    """Return whether Lightning writes the values that this batch logs; the same on every rank.

    It does so at every `log_every_n_steps`-th update of the run, on the batch that makes the update. Valid
    from the start of a batch to `on_train_batch_end`.
    """
    epoch_loop, interval = trainer.fit_loop.epoch_loop, trainer.log_every_n_steps  # type: ignore[attr-defined]
    if not interval or epoch_loop._should_accumulate():
        return False
    return (epoch_loop._batches_that_stepped + 1) % interval == 0


def makes_a_step(trainer: L.Trainer) -> bool:
    """Return whether this batch made an update; valid from its start to `on_train_batch_end`."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def ends_the_epoch(trainer: L.Trainer) -> bool:
    """Return whether this batch is the last of its epoch."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def ends_the_run(trainer: L.Trainer) -> bool:
    """Return whether the run's limit of steps is reached."""
    return 0 < trainer.max_steps <= trainer.global_step


def is_validated_next(trainer: L.Trainer) -> bool:
    """Return whether Lightning runs a validation right after this batch; for `on_train_batch_end`."""
    return trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]


def may_save(trainer: L.Trainer) -> bool:
    """Return whether to save for a signal after this batch: it made a step, which is not saved anyway."""
    return makes_a_step(trainer) and not (ends_the_run(trainer) or is_validated_next(trainer))


def rewind_loops(checkpoint: dict[str, Any], num_batches: int) -> None:
    """Subtract this many trained batches from Lightning's counters in a checkpoint."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counters in (progress["total"], progress["current"]):
        for name in counters:
            counters[name] -= num_batches


def resume_within_epoch(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Make Lightning continue the epoch in which a checkpoint was taken, whatever ended the run.

    Lightning counts an epoch that `max_steps` ended as complete. With `max_steps`, it also assumes that every
    checkpoint is inside an epoch. In both cases a resumed run would miss the rest of an epoch.
    """
    # From here on only the counters tell whether an epoch is complete.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    loops, position = checkpoint.get("loops", {}).get("fit_loop"), checkpoint.get(DATA_STATE)
    if not loops or not position or not position["clips"]:
        return
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    if epochs["current"]["processed"] != epochs["current"]["ready"]:
        return
    # As in a checkpoint that is taken between two batches.
    for progress in (epochs["total"], epochs["current"]):
        progress["processed"] -= 1
        progress["completed"] -= 1
    for progress in (batches["total"], batches["current"]):
        progress["completed"] -= 1
    logged = loops.get("epoch_loop.state_dict", {})
    logged.update({name: number - 1 for name, number in logged.items()})  # the last step is counted again


class ResumableSampler(Sampler[SampleKey]):
    """Yields the clips of one rank, from the run's position to the end of the epoch.

    The position gives the epoch, because Lightning makes the first iterator of a resumed run before it
    restores its own counters. The length is always that of a whole epoch, as Lightning expects.
    """

    def __init__(self, sampler: ClipSampler, position: Callable[[], Position]) -> None:
        self.sampler = sampler
        self.position = position

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, clips = self.position()
        self.sampler.set_epoch(epoch)
        return islice(iter(self.sampler), clips // self.sampler.world_size, None)
