"""The driver of a sweep: from its configuration to a best checkpoint and a report."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune

from sam2vt.config import Config
from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.capacity import cluster_capacity
from sam2vt.distributed.cluster.needs import concurrent_trials
from sam2vt.distributed.cluster.preflight import check_cluster, check_config
from sam2vt.distributed.cluster.session import EXIT_CODES, ray_session
from sam2vt.distributed.cluster.storage import RunStorage, run_storage
from sam2vt.distributed.launch import with_absolute_paths
from sam2vt.distributed.stream.plan import plan_stream
from sam2vt.distributed.sweep.collect import final_result, objectives_of
from sam2vt.distributed.sweep.outputs import write_outputs
from sam2vt.distributed.sweep.record import (
    TUNE_FOLDER,
    check_earlier,
    renew_state,
    what_is_asked,
    write_record,
)
from sam2vt.distributed.sweep.results import SweepResult, trial_name
from sam2vt.distributed.sweep.schedule import build_scheduler
from sam2vt.distributed.sweep.search import known_points, search_arguments
from sam2vt.distributed.sweep.trial import RunTrial, TrialJob
from sam2vt.distributed.sweep.watch import Watch, remove_leftovers, remove_weights_in_transit
from sam2vt.errors import ConfigError, TrainingError

log = logging.getLogger(__name__)
# A trial's own process runs no training: it starts its workers and listens. It stays on the head, which
# goes last; a name that Ray gives that machine alone.
HEAD = "node:__internal_head__"
LEAST_OF_HEAD, MOST_OF_HEAD = 0.001, 0.9  # the most by all trials together, so that other sweeps find room
_END_SECONDS = 15.0  # until the processes of stopped trials have let go of their files


def run_sweep(sweep: Sweep, trial_class: type[tune.Trainable] = RunTrial) -> SweepResult:
    """Run the sweep on a Ray cluster, or on a Ray of its own; each trial is a `trial_class`.

    Raises ConfigError for what the user gave, TrainingError where no trial ran to its end. After SIGTERM or
    Ctrl-C its state is kept, and SystemExit with code 143 or 130 is raised.
    """
    config = sweep.base.config({})
    check_config(config)
    if issubclass(trial_class, RunTrial):
        check_data(config)
    storage = run_storage(config)
    record = what_is_asked(sweep, config)
    goes_on = check_earlier(storage, config, record)
    absolute = with_absolute_paths(config, storage)
    quieten_tune(config)
    if sweep.settings.scheduler == "pbt":  # all trials have to be there before weights are exchanged
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(sweep.settings.num_trials)
    with ray_session(config, dashboard=True):
        check_cluster(absolute, storage)
        concurrent = how_many_at_once(sweep, concurrent_trials(absolute, cluster_capacity()))
        job = trial_job(sweep, absolute, storage)
        write_record(storage, record)
        with stopping() as request:
            tuner = (restored if goes_on else new)(sweep, job, storage, concurrent, trial_class)
            grid = tuner.fit()
            if request:
                raise SystemExit(EXIT_CODES[request[0]])
            result = final_result(sweep, storage, grid)
            clean_up(result, sweep, storage)
            write_outputs(result, sweep, storage)
    if result.best is None:
        reasons = "; ".join(f"{each.name} {each.status}: {each.reason}" for each in result.trials[:3])
        raise TrainingError(f"no trial ran to its end, see {storage.join('sweep.html')}; {reasons}")
    return result


def quieten_tune(config: Config) -> None:
    """The table says how trials end and why; Tune would add its own, and a page of traceback for each."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    shown = config.log_level == "DEBUG"
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.INFO if shown else logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Consider boosting PBT performance")


def trial_job(sweep: Sweep, absolute: Config, storage: RunStorage) -> TrialJob:
    """With paths that hold in any process."""
    names = ["model.checkpoint_path", "model.config_path"]
    data = ("data_path", "image_root", "datasets")
    names += [f"{part}.{name}" for part in ("dataset", "valdataset") for name in data]
    paths = {
        name: getattr(getattr(absolute, part), field) for name in names for part, field in [name.split(".")]
    }
    return TrialJob(
        base=sweep.base.changed(paths),
        output_dir=absolute.output_dir,
        storage_path=storage.join("trials") if absolute.ray.storage_path else None,
        objectives=objectives_of(sweep),
        passes_weights=sweep.settings.scheduler == "pbt",
    )


def check_data(config: Config) -> None:
    """What would end every trial at its start: data that cannot be read, or that leaves too few steps.

    Raises ConfigError or DataError.
    """
    from sam2vt.core.data.opening import find_records
    from sam2vt.core.training.preflight import check_scorable, check_warm_up

    train, val = find_records(config)
    check_scorable(config, val, can_skip=False)
    plan = plan_stream(config, len(train))
    check_warm_up(config.scheduler, math.ceil(plan.total_steps / config.trainer.accumulate_grad_batches))


def how_many_at_once(sweep: Sweep, fit: int) -> int:
    """Raises ConfigError for more than fit: their workers would take the CPUs that decode for them."""
    wanted = sweep.settings.max_concurrent
    if wanted is not None and wanted > fit:
        raise ConfigError(
            f"sweep.max_concurrent={wanted}: {fit} trial(s) fit on the cluster, each with ray.num_workers x "
            f"ray.cpus_per_worker + ray.decode_actors + 1 CPUs (and its GPUs); set at most {fit}, null for "
            "as many as fit, or give more CPUs (ray.local_cpus on this machine)"
        )
    return wanted or fit


def new(
    sweep: Sweep, job: TrialJob, storage: RunStorage, concurrent: int, trial_class: type[tune.Trainable]
) -> tune.Tuner:
    """A sweep from its beginning."""
    first = job.objectives[0]
    space, arguments = search_arguments(sweep, job.objectives)
    return tune.Tuner(
        _trainable(trial_class, job, concurrent),
        param_space=space,
        tune_config=tune.TuneConfig(
            **arguments,
            scheduler=build_scheduler(sweep, first.mode),
            max_concurrent_trials=None if job.passes_weights else concurrent,
            reuse_actors=not issubclass(trial_class, RunTrial),
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            storage_path=storage.root,
            name=TUNE_FOLDER,
            verbose=0,
            callbacks=[Watch(sweep, storage, num_trials(sweep), concurrent)],
            failure_config=tune.FailureConfig(max_failures=0),
            # Weights lie in the trials' own folders; through Tune they go where pbt hands them on.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3, checkpoint_at_end=False),
        ),
    )


def restored(
    sweep: Sweep, job: TrialJob, storage: RunStorage, concurrent: int, trial_class: type[tune.Trainable]
) -> tune.Tuner:
    """A sweep where it was left: trials that ended stay as they are, the others go on."""
    log.info("%s: resuming the sweep that was begun there", storage.root)
    renew_state(storage)
    return tune.Tuner.restore(
        storage.join(TUNE_FOLDER), _trainable(trial_class, job, concurrent), resume_unfinished=True
    )


def num_trials(sweep: Sweep) -> int:
    """How many there will be."""
    if sweep.settings.algorithm == "grid":
        return 1 + sum(1 for _ in known_points(sweep))
    return sweep.settings.num_trials


def clean_up(result: SweepResult, sweep: Sweep, storage: RunStorage) -> None:
    """Delete what is not kept, again while processes that were stopped still write."""
    until = time.monotonic() + _END_SECONDS
    while remove_leftovers(result, storage, sweep.settings.keep_best) and time.monotonic() < until:
        time.sleep(1.0)
    remove_weights_in_transit(storage, TUNE_FOLDER)


@contextmanager
def stopping() -> Iterator[list[signal.Signals]]:
    """Holds the signal that asked the sweep to stop, if one did; a second one ends it at once.

    Tune stops, and keeps its state, at SIGUSR1, whatever handles the others.
    """
    request: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def stop(number: int, frame: FrameType | None) -> None:
        request.append(signal.Signals(number))
        if len(request) > 1:
            raise KeyboardInterrupt
        log.warning("%s: stopping; go on later with resume=auto", request[0].name)
        os.kill(os.getpid(), signal.SIGUSR1)

    def stop_now(number: int, frame: FrameType | None) -> None:  # Tune is not there yet
        raise KeyboardInterrupt

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGUSR1: stop_now}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    except KeyboardInterrupt:
        raise SystemExit(EXIT_CODES[request[0] if request else signal.SIGINT]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _trainable(trial_class: type[tune.Trainable], job: TrialJob, concurrent: int) -> Any:
    """With what its process takes of the head.

    Under pbt that is what bounds the trials that run: all of them take part, most of them paused, and Tune's
    own bound counts those too.
    """
    share = math.floor(MOST_OF_HEAD / concurrent * 1e4) / 1e4 if job.passes_weights else LEAST_OF_HEAD
    return tune.with_resources(tune.with_parameters(trial_class, job=job), {"CPU": 0, HEAD: share})


def _name(trial: Any) -> str:
    return trial_name(trial.config["point"]["number"])
