"""Start a worker: begin to read clips, then load and run the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import ray
import ray.train

from sam2vt.configuration.loading import from_dict
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.stream.plan import Division, StreamPlan
from sam2vt.distributed.stream.start import Start, local_checkpoint
from sam2vt.errors import Sam2vtError
from sam2vt.imports import importing

if TYPE_CHECKING:
    from sam2vt.run_summary import RunSummary


class Job(TypedDict):
    """The arguments that the driver hands to every worker."""

    config: dict[str, Any]  # `to_dict` of a checked Config with absolute paths
    plan: StreamPlan
    records: ray.ObjectRef  # of `RunRecords`; a reference, since opening them loads torch
    storage: RunStorage
    board: Any  # handle on the actor of `sam2vt.distributed.board.Board`


def train_on_worker(job: Job) -> RunSummary | None:
    """Start to read clips and meanwhile load the modules of the training, which takes seconds; then train.

    Rank 0 returns the summary of a run that came to its end; None if it was stopped, and on other ranks.
    """
    from sam2vt.distributed.stream.loader import StreamLoader

    context, config = ray.train.get_context(), from_dict(job["config"])
    # All ranks take the decision of `NextStream` from the board: looking for the newest checkpoint
    # themselves, they might find different ones.
    start: Start = ray.get(job["board"].get_start.remote())
    loader = StreamLoader(
        lambda: ray.train.get_dataset_shard("train"),
        Division(job["plan"], context.get_world_size()),
        context.get_world_rank(),
        first_step=start.step,
        prefetch=config.ray.prefetch_batches,
        steps_per_update=config.trainer.accumulate_grad_batches,
    )
    loader.start()
    # Here and not above: the reader's thread waits for Ray Data while this loads torch.
    with importing():
        from sam2vt.distributed.worker.training import train_loop

    try:
        with local_checkpoint(start.checkpoint) as resume:
            return train_loop(config, loader, resume, ray.get(job["records"]), job["storage"], job["board"])
    except Sam2vtError as error:
        # `NextStream` ends the run: another group would meet it too.
        ray.get(job["board"].set_failure.remote(error))
        raise
    finally:
        loader.close()
