from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.sweep import Sweep
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.checkpoints.restoring import TAKEN_OVER
from sam2vt.distributed.cluster.storage import RunStorage, run_storage
from sam2vt.distributed.launch import with_absolute_paths
from sam2vt.distributed.sweep.collect import reason_of
from sam2vt.distributed.sweep.launch import check_data, how_many_at_once, num_trials, trial_job
from sam2vt.distributed.sweep.record import check_earlier, what_is_asked, write_record
from sam2vt.distributed.sweep.results import Objective
from sam2vt.distributed.sweep.trial import Reporter, TrialJob, take_over
from sam2vt.errors import ConfigError, DataError

SweepOf = Callable[..., Sweep]
BOTH = (Objective("val/J&F", "max"), Objective("seconds_per_step", "min"))


def job_of(sweep: Sweep) -> TrialJob:
    config = sweep.base.config({})
    return trial_job(sweep, with_absolute_paths(config, run_storage(config)), run_storage(config))


def test_scores_are_the_best_so_far_and_rates_what_they_are() -> None:
    reporter = Reporter(BOTH, best_so_far=True)
    rows = [(0.2, 1.0), (0.5, 3.0), (0.3, 2.0), (math.nan, 2.0)]
    found = [reporter.result({"val/J&F": score, "seconds_per_step": speed}) for score, speed in rows]
    assert [row["objective"] for row in found] == [0.2, 0.5, 0.5, 0.5]
    assert [row["objective_2"] for row in found] == [1.0, 3.0, 2.0, 2.0]
    assert [row["val/J&F"] for row in found[:3]] == [0.2, 0.5, 0.3]


def test_where_weights_are_passed_on_their_own_score_counts() -> None:
    reporter = Reporter(BOTH[:1], best_so_far=False)
    assert [reporter.result({"val/J&F": s})["objective"] for s in (0.5, 0.3)] == [0.5, 0.3]


def test_a_trial_lies_in_a_folder_of_its_own_and_goes_on_by_itself(sweep_of: SweepOf, tmp_path: Path) -> None:
    config = job_of(sweep_of()).config(3, {"optimizer.lr": 0.5})
    assert config.output_dir == str(tmp_path / "sweep" / "trials" / "trial_003")
    assert config.save_dir == f"{config.output_dir}/checkpoints"
    assert (config.resume, config.optimizer.lr, config.ray.storage_path) == ("auto", 0.5, None)


def test_trackers_show_the_trials_of_a_sweep_together(
    sweep_of: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2vt.configuration.conflicts.missing", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    config = job_of(sweep_of("loggers=[mlflow,csv]", "mlflow_uri=sqlite:///runs/all.db")).config(3, {})
    assert config.group == f"{tmp_path.name}/sweep"
    assert (config.mlflow_uri, config.log_checkpoint) == (f"sqlite:///{tmp_path}/runs/all.db", False)
    assert job_of(sweep_of("loggers=[wandb]", "group=mine")).config(3, {}).group == "mine"
    assert job_of(sweep_of("loggers=[csv]")).config(3, {}).group is None


def test_a_trial_lies_in_the_sweep_s_storage_where_that_is_elsewhere(
    sweep_of: SweepOf, tmp_path: Path
) -> None:
    sweep = sweep_of(f"ray.storage_path={tmp_path / 'shared'}", "ray.name=mine")
    config = job_of(sweep).config(3, {})
    assert run_storage(config).root == str(tmp_path / "shared" / "mine" / "trials" / "trial_003")


def test_paths_hold_in_any_process(
    sweep_of: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    relative = ("data_path=videos", "image_root=images", "feature_cache=features")
    job = job_of(
        sweep_of(*(f"dataset.{each}" for each in relative), "model.trainable_modules=[mask_decoder]")
    )
    monkeypatch.chdir("/")
    dataset = job.config(0, {}).dataset
    found = (dataset.data_path, dataset.image_root, dataset.feature_cache)
    assert found == tuple(str(tmp_path / name) for name in ("videos", "images", "features"))


def test_taken_weights_replace_what_the_trial_had(sweep_of: SweepOf, tmp_path: Path) -> None:
    config = job_of(sweep_of()).config(1, {"optimizer.lr": 0.25})
    old = Path(config.save_dir) / "step_00000001.ckpt"
    old.parent.mkdir(parents=True)
    old.touch()
    content = {"state_dict": {"a": torch.ones(2)}, "hyper_parameters": {"config": {}}}
    torch.save(content, tmp_path / "weights.ckpt")
    taken = take_over(config, run_storage(config), tmp_path / "weights.ckpt")
    assert not old.exists()
    assert taken.resume == f"{config.output_dir}/inherited.ckpt"
    found = torch.load(taken.resume, weights_only=True)
    assert found[TAKEN_OVER]
    assert found["hyper_parameters"]["config"] == to_dict(config)
    assert torch.equal(found["state_dict"]["a"], torch.ones(2))


def asked(sweep: Sweep) -> tuple[RunStorage, Any, dict[str, Any]]:
    config = sweep.base.config({})
    return run_storage(config), config, what_is_asked(sweep, config)


def test_a_new_folder_is_free(sweep_of: SweepOf) -> None:
    assert check_earlier(*asked(sweep_of())) is False


def test_a_sweep_is_gone_on_with_only_when_that_is_said(sweep_of: SweepOf) -> None:
    storage, _, record = asked(sweep_of())
    write_record(storage, record)
    with pytest.raises(ConfigError, match="holds this sweep already; resume it with resume=auto"):
        check_earlier(*asked(sweep_of()))
    same = sweep_of("resume=auto", "sweep.keep_best=3", "sweep.max_concurrent=1", "ray.local_cpus=9")
    assert check_earlier(*asked(same)) is False  # nothing was begun yet


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sweep.num_trials=9", "sweep.num_trials was 8, is 9"),
        ("optimizer.betas=[0.8,0.9]", r"optimizer.betas was \[0.9, 0.999\], is \[0.8, 0.9\]"),
        ("+sweep.space.optimizer.weight_decay={uniform: [0, 1]}", "sweep.space was .*, is .*weight_decay"),
        ("ray.num_workers={min: 1, max: 4}", "ray.num_workers was 2, is 4"),
    ],
)
def test_another_sweep_in_the_folder_is_refused(sweep_of: SweepOf, override: str, said: str) -> None:
    storage, _, record = asked(sweep_of())
    write_record(storage, record)
    with pytest.raises(ConfigError, match=said):
        check_earlier(*asked(sweep_of("resume=auto", override)))


@pytest.mark.parametrize("content", ["{", "[1, 2]", ""])
def test_a_damaged_record_is_said(sweep_of: SweepOf, content: str) -> None:
    storage, config, record = asked(sweep_of("resume=auto"))
    write_record(storage, record)
    Path(storage.join("sweep.json")).write_text(content)
    with pytest.raises(ConfigError, match=r"sweep\.json .*give another output_dir"):
        check_earlier(storage, config, record)


def test_a_storage_that_is_no_address_is_said(sweep_of: SweepOf) -> None:
    with pytest.raises(ConfigError, match=r"bogus://x/sweep/sweep\.json cannot be read"):
        check_earlier(*asked(sweep_of("ray.storage_path=bogus://x")))


def test_no_more_trials_at_once_than_fit(sweep_of: SweepOf) -> None:
    assert how_many_at_once(sweep_of(), 3) == 3
    assert how_many_at_once(sweep_of("sweep.max_concurrent=2"), 3) == 2
    with pytest.raises(ConfigError, match=r"sweep.max_concurrent=4: 3 trial\(s\) fit on the cluster"):
        how_many_at_once(sweep_of("sweep.max_concurrent=4"), 3)


def test_what_would_end_every_trial_is_found_before_the_first(sweep_of: SweepOf, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="videos"):
        check_data(sweep_of().base.config({}))
    write_sample_data(tmp_path / "some", num_videos=1, num_frames=4, size=(48, 64))
    data = f"dataset.data_path='{tmp_path / 'some'}'"
    check_data(sweep_of(data).base.config({}))
    with pytest.raises(ConfigError, match="scheduler.warmup_steps=20: the run has 4 optimizer steps"):
        check_data(sweep_of(data, "trainer.max_steps=4", "scheduler.warmup_steps=20").base.config({}))
    with pytest.raises(DataError, match="J and F count no frame") as caught:
        check_data(sweep_of(data, "split=time", "val_fraction=0.3").base.config({}))
    assert "limit_val_batches" not in str(caught.value)  # which no sweep may set


def test_the_reason_of_a_trial_holds_the_faults() -> None:
    error = ConfigError("the configuration has 2 faults:\n  - a=1: must be 2\n  - b=3: must be 4")
    assert reason_of(error) == "the configuration has 2 faults: a=1: must be 2; b=3: must be 4"


def test_how_many_trials_there_will_be(sweep_of: SweepOf) -> None:
    assert num_trials(sweep_of("sweep.num_trials=5")) == 5
    grid = sweep_of(
        "~sweep.space.loss",
        "~sweep.space.optimizer.lr",
        "+sweep.space.seed={integer: [1, 3]}",
        "sweep.algorithm=grid",
    )
    assert num_trials(grid) == 4
