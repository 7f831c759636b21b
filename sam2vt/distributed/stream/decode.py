"""Decode clips in actors of Ray Data: from the numbers of slots to packed clips.

Ray's own manager processes load this module to pass on the pipeline; it imports no torch, so they start in a
second. The data of a decoder is in the object store, and only decoders read it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray
import ray.data

from sam2vt.distributed.stream.plan import BLANK, Division
from sam2vt.errors import Sam2vtError

if TYPE_CHECKING:
    from sam2vt.core.data.clips.drawing import ClipArrays
    from sam2vt.core.data.clips.spec import ClipSpec
    from sam2vt.core.types import VideoRecord

_INDEX_BLOCK_ROWS = 8192  # row numbers read by one task


class DecodeJob(NamedTuple):
    """Everything that turns a position of the stream into a clip; the same for every row of a run."""

    records: Sequence[VideoRecord]  # read by row, so that it costs an actor the same however many there are
    spec: ClipSpec
    sampling: dict[str, Any]  # the arguments of `sample_at` after the position
    quarantine: bool = False  # replace a clip that cannot be made by a blank one with the reason


class ClipDecoder:
    """A decode actor; `first_step` is the step whose clips come first."""

    def __init__(self, job: ray.ObjectRef, division: Division, first_step: int) -> None:
        import cv2

        cv2.setNumThreads(0)  # an actor is given one CPU
        self.job: DecodeJob = ray.get(job)
        self.division, self.first_slot = division, first_step * division.slots_per_step

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from sam2vt.core.data.clips.drawing import draw_blank
        from sam2vt.distributed.stream.wire import pack_clips, pack_error

        rows = [self.division.row_of_slot(int(number) + self.first_slot) for number in batch["id"]]
        try:
            return pack_clips([self._clip(row) for row in rows], rows)
        except Sam2vtError as error:
            return pack_error(error, rows, draw_blank(self.job.spec, "blank"))

    def _clip(self, row: int) -> ClipArrays:
        # These import no torch, which would take 0.5 GB in every actor, unless clips are augmented.
        from sam2vt.core.data.clips.drawing import draw_blank, draw_clip, draw_or_quarantine
        from sam2vt.core.data.clips.sampling import sample_at

        if row == BLANK:
            return draw_blank(self.job.spec, "blank")
        key = sample_at(self.division.plan.position(row), **self.job.sampling)
        draw = draw_or_quarantine if self.job.quarantine else draw_clip
        return draw(self.job.records, key, self.job.spec)


def build_dataset(
    job: ray.ObjectRef, division: Division, *, first_step: int = 0, decode_actors: int = 1
) -> ray.data.Dataset:
    """Return the packed clips from `first_step` to the run's end, lazily, in blocks of one batch each.

    `job` refers to a `DecodeJob`. The columns are those of `sam2vt.distributed.stream.wire`.
    """
    plan = division.plan
    num_steps = max(plan.total_steps - first_step, 1)  # a finished run reads none of them
    num_slots = num_steps * division.slots_per_step
    index = ray.data.range(num_slots, override_num_blocks=max(1, math.ceil(num_slots / _INDEX_BLOCK_ROWS)))
    blocks = index.repartition(target_num_rows_per_block=plan.batch_size, strict=True)
    return blocks.map_batches(
        ClipDecoder,
        fn_constructor_args=(job, division, first_step),
        batch_size=plan.batch_size,
        compute=ray.data.ActorPoolStrategy(size=decode_actors),
        num_cpus=1,
    )


def quiet_ray_data() -> None:
    """Turn off the progress bars and notices of Ray Data for datasets that this process starts."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
