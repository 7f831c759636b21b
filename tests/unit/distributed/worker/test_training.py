"""Lightning's counts where a step takes several batches of each rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sam2vt.config import Config
from sam2vt.core.training.loggers.runs import IDS
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.stream.plan import Division, plan_stream
from sam2vt.distributed.worker.training import CountRounds, _fetch_ids, _store_ids, divided_trainer_kwargs
from sam2vt.errors import ConfigError


def division(workers: int, **trainer: Any) -> tuple[Config, Division]:
    """Of a run planned for four workers, with epochs of ten steps."""
    config = Config()
    config.ray.num_workers, config.dataset.clips_per_video = 4, 10
    for name, value in trainer.items():
        setattr(config.trainer, name, value)
    return config, Division(plan_stream(config, num_videos=4), workers)


def test_the_full_number_of_workers_changes_nothing() -> None:
    assert divided_trainer_kwargs(*division(4)) == {}


def test_graphs_do_not_go_with_several_batches_a_step() -> None:
    config, divided = division(2)
    config.model.cuda_graphs = True
    with pytest.raises(ConfigError, match=r"model.cuda_graphs: fewer workers .* take 2 batches per step"):
        divided_trainer_kwargs(config, divided)


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({}, {"accumulate_grad_batches": 2, "limit_train_batches": 20, "val_check_interval": 1.0}),
        (
            {"accumulate_grad_batches": 3, "limit_train_batches": 6, "val_check_interval": 2},
            {"accumulate_grad_batches": 6, "limit_train_batches": 12, "val_check_interval": 4},
        ),
        # A third of ten steps: three, as Lightning rounds it.
        (
            {"val_check_interval": 0.33},
            {"accumulate_grad_batches": 2, "limit_train_batches": 20, "val_check_interval": 6},
        ),
    ],
)
def test_half_the_workers_count_twice(trainer: dict[str, Any], expected: dict[str, Any]) -> None:
    assert divided_trainer_kwargs(*division(2, **trainer)) == expected


@pytest.mark.parametrize(("was", "workers", "expected"), [(1, 2, 14), (1, 1, 28), (2, 4, 3), (4, 4, 1)])
def test_counters_follow_the_rounds_of_a_step(was: int, workers: int, expected: int) -> None:
    """Seven batches at another number of rounds; those of steps that were not finished do not count."""
    counters = {"ready": 7, "started": 7, "processed": 7, "completed": 7}
    progress = {"total": dict(counters), "current": dict(counters), "is_last_batch": False}
    checkpoint = {
        "SAM2LightningDataModule": {"rounds": was},
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
    }
    CountRounds(division(workers)[1]).on_load_checkpoint(None, None, checkpoint)  # type: ignore[arg-type]
    assert set(progress["total"].values()) == set(progress["current"].values()) == {expected}


@pytest.mark.parametrize(("was", "workers", "expected"), [(1, 2, 14), (2, 4, 3)])
def test_a_batch_that_is_not_completed_stays_one(was: int, workers: int, expected: int) -> None:
    counters = {"ready": 7, "started": 7, "processed": 7, "completed": 6}
    progress = {"total": dict(counters), "current": dict(counters), "is_last_batch": False}
    checkpoint = {
        "SAM2LightningDataModule": {"rounds": was},
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
    }
    CountRounds(division(workers)[1]).on_load_checkpoint(None, None, checkpoint)  # type: ignore[arg-type]
    assert progress["total"] == {name: expected - (name == "completed") for name in counters}


def test_the_next_group_of_workers_has_the_ids_of_the_loggers_runs(tmp_path: Path, caplog) -> None:
    storage = RunStorage(f"file://{tmp_path}/remote")
    first, second = (Config(output_dir=str(tmp_path / each)) for each in ("first", "second"))
    _fetch_ids(first, storage)  # nobody has stored any
    _store_ids(first, storage)
    (tmp_path / "first" / IDS).write_text("{}")
    _store_ids(first, storage)
    _fetch_ids(second, storage)
    assert (tmp_path / "second" / IDS).read_text() == "{}"
    (tmp_path / "file").touch()
    _store_ids(first, RunStorage(f"file://{tmp_path}/file"))
    assert "cannot be stored" in caplog.text
