"""Plan a stream: which clip goes to which rank at which step, as arithmetic on one sample index.

Row g of the stream is clip `clips` of epoch `epoch`, where (epoch, clips) = divmod(g, rows per epoch). A step
takes the same number of clips for the whole run: V shares of `batch_size`, where V is the full number of
workers. Clips that do not fill a step are left out at the end of their epoch, as `ClipSampler` does.

With R workers a step takes k = ceil(V / R) rounds, whose gradients add up to one update. In round j, rank r
reads share j*R + r or, if there is no such share, a blank clip that counts nowhere. So the clips of a step,
the number of steps and everything counted in steps are the same for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam2vt.config import Config
from sam2vt.errors import ConfigError

BLANK = -1  # instead of a row's number


@dataclass(frozen=True)
class StreamPlan:
    """The stream of a run, from its first row to its last."""

    clips_per_epoch: int
    num_shares: int
    batch_size: int
    steps_per_epoch: int  # for which the clips suffice
    used_steps_per_epoch: int  # after limit_train_batches
    total_steps: int  # over all epochs, after max_steps

    @property
    def rows_per_step(self) -> int:
        """Clips per step, the effective batch size without gradient accumulation."""
        return self.num_shares * self.batch_size

    @property
    def rows_per_epoch(self) -> int:
        """Clips per epoch that are trained on."""
        return self.used_steps_per_epoch * self.rows_per_step

    @property
    def total_rows(self) -> int:
        """Clips of the whole run."""
        return self.total_steps * self.rows_per_step

    def position(self, row: int) -> int:
        """Return the place of a row among all clips of all epochs, as `sample_at` takes it."""
        epoch, clips = divmod(row, self.rows_per_epoch)
        return epoch * self.clips_per_epoch + clips

    def step_at(self, epoch: int, clips: int) -> int:
        """Return the step that continues from the recorded position of a run.

        Raises ConfigError if the position is inside a step, as after a change of the effective batch size.
        """
        step, inside = divmod(clips, self.rows_per_step)
        if inside:
            raise ConfigError(
                f"resume: the checkpoint is {clips} clips into epoch {epoch}, which is no multiple of the "
                f"{self.rows_per_step} clips that a step takes; "
                "resume with the batch size and workers it was written with"
            )
        return epoch * self.used_steps_per_epoch + step

    def epoch_end(self, step: int) -> int:
        """Return the first step of the epoch after that of `step`."""
        return (step // self.used_steps_per_epoch + 1) * self.used_steps_per_epoch

    def rows(self, step: int, share: int) -> range:
        """Return the rows of a share of a step, counted from the run's start."""
        first = step * self.rows_per_step + share * self.batch_size
        return range(first, first + self.batch_size)


@dataclass(frozen=True)
class Division:
    """A plan for `world_size` workers, each of which reads `rounds` batches per step."""

    plan: StreamPlan
    world_size: int

    @property
    def rounds(self) -> int:
        """Batches that each rank takes per step."""
        return -(-self.plan.num_shares // self.world_size)

    @property
    def batches_per_epoch(self) -> int:
        """Batches that each rank takes per epoch."""
        return self.plan.used_steps_per_epoch * self.rounds

    @property
    def slots_per_step(self) -> int:
        """Clips of a step, with blank ones."""
        return self.rounds * self.world_size * self.plan.batch_size

    def share(self, batch: int, rank: int) -> int:
        """Return the share of a step that the `batch`-th batch of `rank` is; there may be no such share."""
        return batch % self.rounds * self.world_size + rank

    def rows(self, batch: int, rank: int) -> list[int]:
        """Return the rows of the `batch`-th batch of `rank`, from the run's start, or BLANK for none."""
        share = self.share(batch, rank)
        if share >= self.plan.num_shares:
            return [BLANK] * self.plan.batch_size
        return list(self.plan.rows(batch // self.rounds, share))

    def row_of_slot(self, slot: int) -> int:
        """Return the row that comes as number `slot`, counted from the run's start, as ranks take turns."""
        batch, place = divmod(slot, self.plan.batch_size)
        step, share = divmod(batch, self.rounds * self.world_size)
        return self.plan.rows(step, share)[place] if share < self.plan.num_shares else BLANK


def plan_stream(config: Config, num_videos: int, clips_per_step: int | None = None) -> StreamPlan:
    """Return the stream of a run over `num_videos` videos.

    `clips_per_step` is that of the run to resume, which is kept. Raises ConfigError if an epoch does not
    fill a single step, or if the workers cannot share `clips_per_step`.
    """
    # Not above: Ray's managers load this module.
    from sam2vt.core.data.clips.sampling import limited_batches, usable_clips

    num_shares, batch_size = _shares(config, clips_per_step), config.dataset.batch_size
    usable = usable_clips(num_videos, config.dataset.clips_per_video, num_shares, batch_size)
    steps_per_epoch = usable // (num_shares * batch_size)
    limit = config.trainer.limit_train_batches
    used = limited_batches("trainer.limit_train_batches", steps_per_epoch, limit, "an epoch's steps")
    return StreamPlan(
        clips_per_epoch=num_videos * config.dataset.clips_per_video,
        num_shares=num_shares,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        used_steps_per_epoch=used,
        total_steps=_total_steps(config, used),
    )


def _shares(config: Config, clips_per_step: int | None) -> int:
    workers, batch_size = config.ray.max_workers, config.dataset.batch_size
    if clips_per_step is None:
        return workers
    num_shares, rest = divmod(clips_per_step, batch_size)
    if rest or num_shares < workers:
        raise ConfigError(
            f"resume: the run takes {clips_per_step} clips per step, which is kept; {workers} workers "
            f"(ray.num_workers) x dataset.batch_size={batch_size} cannot share them. Give a batch_size that "
            f"divides {clips_per_step}, and at most {clips_per_step} / batch_size workers"
        )
    return num_shares


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
