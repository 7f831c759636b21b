"""The driver: from a configuration to a finished run on a Ray cluster, or on a Ray of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import ray
import ray.train

from sam2vt.config import Config, ModelConfig, to_dict
from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.distributed.job import Job, train_on_worker
from sam2vt.distributed.preflight import check_cluster, check_config
from sam2vt.distributed.progress import Display, start_board
from sam2vt.distributed.session import ray_session
from sam2vt.distributed.source import ClipSource, Stream, find_clips
from sam2vt.distributed.storage import RAY_FOLDER, RunStorage, run_storage
from sam2vt.distributed.summary import RunSummary, summarise
from sam2vt.errors import SIGTERM_EXIT_CODE, Sam2vtError, TrainingError

TrainFn = Callable[[Job], Mapping[str, Any] | None]


def fit(config: Config, train_fn: TrainFn = train_on_worker) -> RunSummary:
    """Train as configured on the workers of a Ray cluster; each worker runs `train_fn`.

    Raises ConfigError, DataError or CheckpointError for what the user gave, TrainingError where the
    training failed. After SIGTERM the workers save, and SystemExit with code 143 is raised.
    """
    check_config(config)
    storage = run_storage(config)
    config = with_absolute_paths(config, storage)
    with ThreadPoolExecutor(max_workers=1) as pool:
        finding = pool.submit(find_clips, config)  # while Ray starts
        with ray_session(config):
            check_cluster(config, storage)
            board = start_board()
            live = None if config.trainer.enable_progress_bar else False
            with Display(board, live=live), _stop_on_sigterm(board):
                outcome = _run(_create_trainer(config, storage, finding.result(), board, train_fn))
    if outcome["stopped"]:
        raise SystemExit(SIGTERM_EXIT_CODE)
    return summarise(config, storage, outcome)


def with_absolute_paths(config: Config, storage: RunStorage) -> Config:
    """Paths that hold in a worker's own working directory; the run folder is the storage's if local."""
    output_dir = str(Path(config.output_dir).absolute())
    default_save_dir = config.save_dir in ("", os.path.join(config.output_dir, "checkpoints"))
    if not storage.is_remote:
        output_dir = storage.root
    return replace(
        config,
        output_dir=output_dir,
        save_dir=os.path.join(output_dir, "checkpoints") if default_save_dir else _absolute(config.save_dir),
        resume=_absolute(config.resume),
        model=_with_absolute_model(config.model),
        dataset=_with_absolute_data(config.dataset),
        valdataset=_with_absolute_data(config.valdataset),
    )


def _with_absolute_model(model: ModelConfig) -> ModelConfig:
    """The network's YAML too where it is a file; any other name is looked up in packages."""
    config_path = model.config_path
    if Path(config_path).expanduser().is_file():
        config_path = _absolute(config_path)
    return replace(model, checkpoint_path=_absolute(model.checkpoint_path), config_path=config_path)


def _with_absolute_data(dataset: Any) -> Any:
    paths = {"data_path": _absolute(dataset.data_path), "image_root": _absolute(dataset.image_root)}
    return replace(dataset, **paths)


def _absolute(path: Any) -> Any:
    return str(Path(path).expanduser().absolute()) if path and "://" not in path else path


def _create_trainer(
    config: Config, storage: RunStorage, source: ClipSource, board: Any, train_fn: TrainFn
) -> Any:
    from ray.train.torch import TorchTrainer

    from sam2vt.distributed.stream import data_config

    settings, attempt = config.ray, storage.next_attempt()
    stream = Stream(
        ray.put(source.job),
        source.plan,
        source.first_step,
        settings.decode_actors,
        storage.join(RAY_FOLDER, attempt),
    )
    job = Job(config=to_dict(config), plan=source.plan, storage=storage, board=board)
    resources = {"CPU": settings.cpus_per_worker, **({"GPU": 1} if settings.use_gpu else {})}
    # Beside the best, Ray Train always keeps the newest, from which it goes on after a failure.
    kept = ray.train.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute=MONITOR)
    return TorchTrainer(
        cast(Any, train_fn),
        train_loop_config=cast(dict, job),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.num_workers, use_gpu=settings.use_gpu, resources_per_worker=resources
        ),
        datasets={"train": stream},
        dataset_config=data_config(),
        run_config=ray.train.RunConfig(
            storage_path=storage.join(RAY_FOLDER),
            name=attempt,
            checkpoint_config=kept,
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
        ),
    )


def _run(trainer: Any) -> dict[str, Any]:
    """What rank 0 returned. An error of ours in a worker is raised as itself, any other as TrainingError."""
    try:
        return trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        own = own_error(error)
        if own is not None:
            raise own from error
        raise TrainingError(str(error)) from error


def own_error(error: BaseException | None) -> Sam2vtError | None:
    """The error of this package that lies at the bottom of what Ray wrapped around it, if there is one."""
    if error is None or isinstance(error, Sam2vtError):
        return error
    inner = [*getattr(error, "worker_failures", {}).values()]
    inner += [
        getattr(error, name, None) for name in ("cause", "controller_failure", "_base_exc", "__cause__")
    ]
    found = (own_error(e) for e in inner if isinstance(e, BaseException) and e is not error)
    return next((e for e in found if e is not None), None)


@contextmanager
def _stop_on_sigterm(board: Any) -> Iterator[None]:
    """On SIGTERM the workers are told to save and stop; a second one ends the driver at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[bool] = []

    def stop(*_: object) -> None:
        if asked:
            raise SystemExit(SIGTERM_EXIT_CODE)
        asked.append(True)
        board.stop.remote()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
