"""Drive a run from its configuration to its results, on a Ray cluster or on this machine."""

from __future__ import annotations

import logging
import math
import os
import posixpath
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import ray
import ray.train

from sam2vt.config import Config, ModelConfig, RayConfig
from sam2vt.configuration.loading import to_dict, validate
from sam2vt.configuration.mixture import with_paths
from sam2vt.configuration.valdatasets import with_set_paths
from sam2vt.core.data.frames.feature_cache import cache_root
from sam2vt.core.training.checkpoints.resume import AUTO, find_checkpoint
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.loggers import store_of
from sam2vt.distributed.board import Display, start_board
from sam2vt.distributed.cluster.capacity import worker_needs
from sam2vt.distributed.cluster.preflight import check_cluster, check_config
from sam2vt.distributed.cluster.session import ray_session, stopping_signals
from sam2vt.distributed.cluster.storage import RAY_FOLDER, RunStorage, run_storage
from sam2vt.distributed.feature_cache import fill_on_cluster
from sam2vt.distributed.source import ClipSource, find_clips
from sam2vt.distributed.stream.start import NextStream, StreamConfig
from sam2vt.distributed.worker.entry import Job, train_on_worker
from sam2vt.errors import ConfigError, Sam2vtError, TrainingError
from sam2vt.run_folder import alone_in
from sam2vt.run_summary import RunSummary
from sam2vt.train import with_pinned_weights

log = logging.getLogger(__name__)

TrainFn = Callable[[Job], RunSummary | None]


def fit(
    config: Config, train_fn: TrainFn = train_on_worker, board: Any = None, storage: RunStorage | None = None
) -> RunSummary:
    """Train a checked configuration on the workers of a Ray cluster; each worker runs `train_fn`.

    The run posts its progress to `board`, by default to a new one. A sweep passes its own board, and the
    `storage` that it has found.

    Raises ConfigError, DataError or CheckpointError for what the user gave, TrainingError if the training
    failed. After SIGTERM or Ctrl-C the workers save, and SystemExit with code 143 or 130 is raised.
    """
    config = validate(config)  # of one made by hand; one that was loaded is known to be right
    storage = storage or run_storage(config)
    check_config(config, storage)
    config = with_pinned_weights(with_absolute_paths(config, storage))
    # The folder of a trial is its sweep's, and a bucket locks nothing.
    alone = alone_in(storage.root) if board is None and not storage.is_remote else nullcontext()
    with alone, ThreadPoolExecutor(max_workers=1) as pool:
        try:
            found = find_checkpoint(config.resume, CheckpointStore(storage.checkpoints))
        except OSError as error:
            raise ConfigError(f"ray.storage_path: cannot read {storage.root} ({error})") from error
        config = replace(config, resume=None if found is None else found.path)
        finding = pool.submit(find_clips, config, storage, found)  # it takes seconds, as Ray does
        with ray_session(config):
            check_cluster(config, storage)
            board = board or start_board()
            live = None if config.trainer.enable_progress_bar else False
            with Display(board, live=live), stopping_signals(board) as request:
                source = finding.result()
                if (cache := source.job.spec.features) is not None:
                    fill_on_cluster(config, cache, source.records[0], request.stop_if_asked)
                leave_later_steps(storage, source)  # the last check has passed
                trainer = _create_trainer(config, storage, source, board, train_fn)
                summary = _run(trainer)
    if summary is None:
        again = "the same command and resume=auto"
        if not storage.is_remote:
            again = shlex.join(["python", "ray_jobs/train.py", f"resume={storage.root}"])
        log.warning("stopped; continue with: %s", again)
        raise SystemExit(request.exit_code)
    return summary


def with_absolute_paths(config: Config, storage: RunStorage) -> Config:
    """Return the configuration with paths that are valid in the working directory of any worker.

    The run folder is that of the storage if it is local.
    """
    output_dir = str(Path(config.output_dir).absolute())
    save_dir = os.path.join(output_dir, "checkpoints")
    if not storage.is_remote:
        output_dir, save_dir = storage.root, storage.checkpoints
    return replace(
        config,
        output_dir=output_dir,
        save_dir=save_dir,
        resume=config.resume if config.resume == AUTO else _absolute(config.resume),
        mlflow_uri=store_of(config) if "mlflow" in config.chosen_loggers else config.mlflow_uri,
        model=_with_absolute_model(config.model),
        dataset=_with_absolute_data(config.dataset),
        valdataset=_with_absolute_data(config.valdataset),
        valdatasets=with_set_paths(config.valdatasets, _absolute),
    )


def leave_later_steps(storage: RunStorage, source: ClipSource) -> None:
    """Delete the checkpoints after the one that the run resumes from, if it is one of this run.

    Workers resume from the newest checkpoint in the run's store. Call this when nothing can refuse the run
    any more.
    """
    resumed = source.resumed
    if resumed is not None and _folder(resumed.path) == _folder(f"{storage.checkpoints}/any"):
        CheckpointStore(storage.checkpoints).discard_after(resumed.step)


def _folder(path: str) -> str:
    return posixpath.dirname(path) if "://" in path else str(Path(path).resolve().parent)


def _with_absolute_model(model: ModelConfig) -> ModelConfig:
    """Return the settings with absolute paths; a network's YAML that is not a file is a name in a package."""
    config_path = model.config_path
    if Path(config_path).expanduser().is_file():
        config_path = _absolute(config_path)
    return replace(with_paths(model, _absolute), config_path=config_path)


def _with_absolute_data(dataset: Any) -> Any:
    cache = dataset.feature_cache
    return replace(with_paths(dataset, _absolute), feature_cache=cache and cache_root(cache))


def _absolute(path: Any) -> Any:
    return str(Path(path).expanduser().absolute()) if path and "://" not in path else path


def _create_trainer(
    config: Config, storage: RunStorage, source: ClipSource, board: Any, train_fn: TrainFn
) -> Any:
    from ray.train.torch import TorchConfig

    from sam2vt.distributed.cluster.ray_trainer import AnnounceController, RunTrainer

    settings = config.ray
    stream = NextStream(
        ray.put(source.job), source.plan, source.start, settings.decode_actors, storage.checkpoints, board
    )
    job = Job(
        config=to_dict(config),
        plan=source.plan,
        records=ray.put(source.records),
        storage=storage,
        board=board,
    )
    # By default, Ray Train's own barriers wait for ever.
    os.environ["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] = str(settings.collective_timeout_seconds)
    return RunTrainer(
        cast(Any, train_fn),
        train_loop_config=cast(dict, job),
        torch_config=TorchConfig(timeout_s=math.ceil(settings.collective_timeout_seconds)),
        scaling_config=_scaling(settings),
        datasets={"train": cast(Any, stream)},
        dataset_config=StreamConfig(settings.decode_labels),
        run_config=ray.train.RunConfig(
            storage_path=storage.join(RAY_FOLDER),
            name=storage.next_attempt(),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            callbacks=[cast(Any, AnnounceController(board))],
        ),
    )


def _scaling(settings: RayConfig) -> Any:
    least, most = settings.min_workers, settings.max_workers
    elastic: dict[str, Any] = {"elastic_resize_monitor_interval_s": settings.resize_check_seconds}
    elastic["num_workers"] = most if least == most else (least, most)
    needs = worker_needs(settings)
    return ray.train.ScalingConfig(use_gpu=settings.use_gpu, resources_per_worker=needs, **elastic)


def _run(trainer: Any) -> RunSummary | None:
    """Return what rank 0 returned. Raises a worker's error of this package as itself, else TrainingError."""
    try:
        return trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        own = own_error(error)
        if own is not None:
            raise own from error
        raise TrainingError(str(error)) from error


def own_error(error: BaseException | None) -> Sam2vtError | None:
    """Return the error of this package that Ray has wrapped in its own, if there is one."""
    if error is None or isinstance(error, Sam2vtError):
        return error
    # Each layer of Ray keeps what it wraps under another name.
    inner = [*getattr(error, "worker_failures", {}).values()]
    inner += [
        getattr(error, name, None) for name in ("cause", "controller_failure", "_base_exc", "__cause__")
    ]
    found = (own_error(e) for e in inner if isinstance(e, BaseException) and e is not error)
    return next((e for e in found if e is not None), None)
