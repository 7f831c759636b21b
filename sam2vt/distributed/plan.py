"""Which clip goes to which rank at which step: arithmetic on one sample index over all epochs.

Row g of the stream is clip `clips` of epoch `epoch`, where (epoch, clips) = divmod(g, rows an epoch).
At step s, rank r of R reads rows s*R*B + r*B up to B more. The clips of an epoch that do not fill a
step of all ranks are left out at the epoch's end, as `ClipSampler` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam2vt.config import Config
from sam2vt.errors import ConfigError


@dataclass(frozen=True)
class StreamPlan:
    """The stream of a run, from its first row to its last."""

    clips_per_epoch: int
    world_size: int
    batch_size: int
    steps_per_epoch: int  # what the clips suffice for
    used_steps_per_epoch: int  # after limit_train_batches
    total_steps: int  # over all epochs, after max_steps

    @property
    def rows_per_step(self) -> int:
        return self.world_size * self.batch_size

    @property
    def rows_per_epoch(self) -> int:
        return self.used_steps_per_epoch * self.rows_per_step

    @property
    def total_rows(self) -> int:
        return self.total_steps * self.rows_per_step

    def position(self, row: int) -> int:
        """The row's place among all clips of all epochs, which `sample_at` takes."""
        epoch, clips = divmod(row, self.rows_per_epoch)
        return epoch * self.clips_per_epoch + clips

    def step_at(self, epoch: int, clips: int) -> int:
        """The step that reads on from a run's recorded position.

        Raises ConfigError where the position lies within a step, as after a change of the batch size.
        """
        step, inside = divmod(clips, self.rows_per_step)
        if inside:
            raise ConfigError(
                f"resume: the checkpoint lies {clips} clips into epoch {epoch}, which is no multiple of "
                f"ray.num_workers={self.world_size} x dataset.batch_size={self.batch_size}; go on with the "
                "numbers that it was written with"
            )
        return epoch * self.used_steps_per_epoch + step

    def epoch_end(self, step: int) -> int:
        """The first step of the epoch after the one that `step` lies in."""
        return (step // self.used_steps_per_epoch + 1) * self.used_steps_per_epoch

    def rows(self, step: int, rank: int) -> range:
        """The rows that `rank` reads at `step`, counted from the run's start."""
        first = step * self.rows_per_step + rank * self.batch_size
        return range(first, first + self.batch_size)


def plan_stream(config: Config, num_videos: int) -> StreamPlan:
    """The stream of a run over `num_videos` videos.

    Raises ConfigError where an epoch does not fill a single step of all ranks.
    """
    from sam2vt.core.data.sampling import usable_clips  # not above: Ray's managers load this module

    world_size, batch_size = config.ray.num_workers, config.dataset.batch_size
    usable = usable_clips(num_videos, config.dataset.clips_per_video, world_size, batch_size)
    steps_per_epoch = usable // (world_size * batch_size)
    used = _limited(steps_per_epoch, config.trainer.limit_train_batches)
    return StreamPlan(
        clips_per_epoch=num_videos * config.dataset.clips_per_video,
        world_size=world_size,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        used_steps_per_epoch=used,
        total_steps=_total_steps(config, used),
    )


def _limited(steps: int, limit: int | float) -> int:
    used = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    if used == 0:
        raise ConfigError(f"trainer.limit_train_batches={limit} leaves none of an epoch's {steps} step(s)")
    return used


def _total_steps(config: Config, steps_per_epoch: int) -> int:
    trainer = config.trainer
    limits = []
    if trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * steps_per_epoch)
    if trainer.max_steps >= 0:
        # Lightning counts updates; an epoch's last one may have fewer batches than the others.
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    if not limits:
        raise ConfigError("trainer.max_epochs=-1 and trainer.max_steps=-1: one of them must end the run")
    return min(limits)
