"""Drive a sweep from its settings to a best checkpoint and a report."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
import warnings
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path
from typing import Any

from ray import tune

from sam2vt.config import TRACKERS, Config
from sam2vt.configuration.sweep import Sweep
from sam2vt.configuration.valdatasets import alone, naming
from sam2vt.distributed.cluster.capacity import cluster_capacity, concurrent_trials
from sam2vt.distributed.cluster.preflight import check_cluster, check_config
from sam2vt.distributed.cluster.session import StopRequest, handling_signals, ray_session
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
from sam2vt.distributed.sweep.trust import check_written_here, note_tuner, noting_state
from sam2vt.distributed.sweep.watch import Watch, remove_leftovers, remove_weights_in_transit
from sam2vt.errors import ConfigError, TrainingError
from sam2vt.settings import path_settings
from sam2vt.train import with_pinned_weights

log = logging.getLogger(__name__)
# A trial's own process runs no training: it starts its workers and listens. It stays on the head, the last
# machine to go, which alone has the resource of this name.
HEAD = "node:__internal_head__"
LEAST_OF_HEAD, MOST_OF_HEAD = 0.001, 0.9  # the most by all trials together, so that other sweeps find room
_END_SECONDS = 15.0  # in which the processes of stopped trials let go of their files


def run_sweep(sweep: Sweep, trial_class: type[tune.Trainable] = RunTrial) -> SweepResult:
    """Run the sweep on the configured Ray cluster or on this machine; each trial is a `trial_class`.

    Raises ConfigError for what the user gave, TrainingError if no trial ran to its end. After SIGTERM or
    Ctrl-C Tune stores its state, and SystemExit with code 143 or 130 is raised.
    """
    config = sweep.base.unswept()
    storage = run_storage(config)
    check_config(config, storage)
    if issubclass(trial_class, RunTrial):
        check_data(config)
    record = what_is_asked(sweep, config)
    resumes = check_earlier(storage, config, record)
    absolute = with_pinned_weights(with_absolute_paths(config, storage))
    quieten_tune(config)
    if sweep.settings.scheduler == "pbt":  # all trials have to be there before weights are exchanged
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(sweep.settings.num_trials)
    with ray_session(config):
        check_cluster(absolute, storage)
        concurrent = how_many_at_once(sweep, concurrent_trials(absolute, cluster_capacity()))
        job = trial_job(sweep, absolute, storage)
        write_record(storage, record)
        with stopping() as request, noting_state(storage):
            tuner = (restored if resumes else new)(sweep, job, storage, concurrent, trial_class)
            note_tuner(storage)
            grid = tuner.fit()
            request.stop_if_asked()
            result = final_result(sweep, storage, grid)
            clean_up(result, sweep, storage)
            write_outputs(result, sweep, storage)
    if result.best is None:
        reasons = "; ".join(f"{each.name} {each.status}: {each.reason}" for each in result.trials[:3])
        raise TrainingError(f"no trial ran to its end, see {storage.join('sweep.html')}; {reasons}")
    return result


def quieten_tune(config: Config) -> None:
    """Silence Tune, whose table and tracebacks would repeat what `Watch` says in one line per trial."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    shown = config.log_level == "DEBUG"
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.INFO if shown else logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Consider boosting PBT performance")


def trial_job(sweep: Sweep, absolute: Config, storage: RunStorage) -> TrialJob:
    """Return what all trials have in common, with paths that hold in any process."""
    # A trial's process has a working directory of its own; its run folder follows from the sweep's.
    names = {name for name in path_settings(Config) if "." in name and not name.startswith("ray.")}
    names |= {"dataset.datasets", "valdataset.datasets", "valdatasets", "mlflow_uri"}
    paths = {name: attrgetter(name)(absolute) for name in names}
    return TrialJob(
        base=sweep.base.changed(paths),
        output_dir=absolute.output_dir,
        storage_path=storage.join("trials") if absolute.ray.storage_path else None,
        objectives=objectives_of(sweep),
        passes_weights=sweep.settings.scheduler == "pbt",
        tracking=_tracking(absolute),
    )


def _tracking(absolute: Config) -> dict[str, Any]:
    """Return the settings by which W&B and MLflow show the trials together; {} without them.

    The checkpoints of trials stay in the sweep's folder, which deletes those that are not kept.
    """
    if not set(absolute.chosen_loggers) & set(TRACKERS):
        return {}
    folder = Path(absolute.output_dir)
    return {"group": absolute.group or f"{folder.parent.name}/{folder.name}", "log_checkpoint": False}


def check_data(config: Config) -> None:
    """Raise ConfigError or DataError for data that would end every trial at its start.

    Such data cannot be read, has nothing to score, or gives fewer steps than the warm-up takes.
    """
    from sam2vt.core.data.opening import open_run
    from sam2vt.core.training.preflight import check_scorable, check_warm_up

    train, val, further = open_run(config)
    check_scorable(config, val, can_skip=False)
    for name, found in further.items():
        with naming(name):
            check_scorable(alone(config, name), found, can_skip=False)
    plan = plan_stream(config, len(train))
    check_warm_up(config.scheduler, math.ceil(plan.total_steps / config.trainer.accumulate_grad_batches))


def how_many_at_once(sweep: Sweep, fit: int) -> int:
    """Return the number of trials to run at once, at most `fit`, the number that fits on the cluster.

    Raises ConfigError for more: their workers would take the CPUs that decode for them.
    """
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
    """Return the tuner of a sweep that begins."""
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
            # Weights stay in the trials' own folders; only those that pbt hands on pass through Tune.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3, checkpoint_at_end=False),
        ),
    )


def restored(
    sweep: Sweep, job: TrialJob, storage: RunStorage, concurrent: int, trial_class: type[tune.Trainable]
) -> tune.Tuner:
    """Return the tuner of a sweep that is resumed: trials that ended stay as they are, the others resume."""
    log.info("%s: resuming the sweep that was begun there", storage.root)
    check_written_here(storage)
    renew_state(storage)
    return tune.Tuner.restore(
        storage.join(TUNE_FOLDER), _trainable(trial_class, job, concurrent), resume_unfinished=True
    )


def num_trials(sweep: Sweep) -> int:
    """Return how many trials the sweep will have."""
    if sweep.settings.algorithm == "grid":
        return 1 + sum(1 for _ in known_points(sweep))
    return sweep.settings.num_trials


def clean_up(result: SweepResult, sweep: Sweep, storage: RunStorage) -> None:
    """Delete files that are not kept, repeatedly while stopped processes still write."""
    until = time.monotonic() + _END_SECONDS
    while remove_leftovers(result, storage, sweep.settings.keep_best) and time.monotonic() < until:
        time.sleep(1.0)
    remove_weights_in_transit(storage, TUNE_FOLDER)


def stopping() -> AbstractContextManager[StopRequest]:
    """Let Tune stop and keep its state at SIGTERM or Ctrl-C; a second signal ends the sweep at once.

    Tune itself listens to SIGUSR1 while it runs, whatever handles the others.
    """

    def interrupt(*_: object) -> None:  # for a signal that comes before Tune listens
        raise KeyboardInterrupt

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    said, others = "stopping; resume the sweep with resume=auto", {signal.SIGUSR1: interrupt}
    return handling_signals(lambda _: os.kill(os.getpid(), signal.SIGUSR1), said, others)


def _trainable(trial_class: type[tune.Trainable], job: TrialJob, concurrent: int) -> Any:
    """Return the trainable with the share of the head that its process takes.

    Under pbt this share bounds the trials that run: all of them take part, most of them paused, and Tune's
    own bound counts the paused ones too.
    """
    share = math.floor(MOST_OF_HEAD / concurrent * 1e4) / 1e4 if job.passes_weights else LEAST_OF_HEAD
    return tune.with_resources(tune.with_parameters(trial_class, job=job), {"CPU": 0, HEAD: share})


def _name(trial: Any) -> str:  # pickled by this name, see `record`
    return trial_name(trial.config["point"]["number"])
