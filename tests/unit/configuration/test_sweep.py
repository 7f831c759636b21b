from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sam2vt.composing import compose_config
from sam2vt.configuration import model_conflicts
from sam2vt.configuration.loading import load_config
from sam2vt.configuration.reading import configs_dir
from sam2vt.configuration.sweep import Sweep, load_sweep
from sam2vt.errors import ConfigError

SWEEPS = sorted(p.stem for p in (configs_dir() / "sweep").glob("*.yaml") if p.stem != "default")
SPACE = "+sweep.space.{}"
# What has to be said beside a sweep for it to make sense.
BESIDE = {"learning_rates": ["model.trainable_modules=['*']"], "ranks": ["model/lora=rank8"]}


def sweep_of(tmp_path: Path, *overrides: str) -> Sweep:
    return load_sweep(compose_config([f"dataset.data_path='{tmp_path}'", *overrides]))


def fault(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        sweep_of(tmp_path, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_of_the_repository_passes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_conflicts, "missing", lambda *_: None)  # also where PEFT is
    sweep = sweep_of(tmp_path, f"sweep={name}", *BESIDE.get(name, []))
    assert sweep.space.fields
    assert sweep.settings.objectives == ["val/J&F"]


def test_the_promised_sweeps_are_there() -> None:
    promised = {"loss_weights", "loss_terms", "learning_rates", "joint", "prompts", "pbt", "ranks", "demo"}
    assert promised <= set(SWEEPS)


def test_a_change_reaches_the_settings_that_refer_to_it(tmp_path: Path) -> None:
    base = sweep_of(tmp_path, "sweep=joint").base
    config = base.config({"max_objects": 5, "model.image_size": 256, "optimizer.lr": 0.5})
    assert (config.model.max_objects, config.dataset.image_size, config.optimizer.lr) == (5, (256, 256), 0.5)
    assert base.config({}).max_objects == 3


def test_the_folder_is_the_same_for_all_trials(tmp_path: Path) -> None:
    """It is named after the time by default, which only Hydra tells."""
    base = sweep_of(tmp_path, "sweep=joint").base
    assert base.content["output_dir"] == base.config({}).output_dir
    OmegaConf.clear_resolver("now")
    assert base.config({}).output_dir.startswith("runs/default/")


def test_a_single_run_refuses_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`ray_jobs/tune.py` takes it"):
        load_config(compose_config([f"dataset.data_path='{tmp_path}'", "sweep=joint"]))


def test_no_sweep(tmp_path: Path) -> None:
    assert fault(tmp_path).startswith("no sweep was named; give sweep=joint")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [SPACE.format("optimizer.lrr={uniform: [0, 1]}")],
            "optimizer.lrr is no setting, did you mean optimizer.lr?",
        ),
        (
            [SPACE.format("optimizr={lr: {uniform: [0, 1]}}")],
            "optimizr.lr is no setting, did you mean optimizer.lr?",
        ),
        ([SPACE.format("model.num_maskmem.x={uniform: [0, 1]}")], "model.num_maskmem.x is no setting"),
        (
            [SPACE.format("scheduler={choice: [1, 2]}")],
            "scheduler is a group of settings; name one of them: enabled",
        ),
        (
            [SPACE.format("dataset.batch_size={uniform: [1, 4]}")],
            "the setting is a whole number; use integer",
        ),
        (
            [SPACE.format("optimizer.type={choice: [adamw, lion]}")],
            "optimizer.type='lion': must be one of adamw",
        ),
        ([SPACE.format("optimizer.type={uniform: [0, 1]}")], "optimizer.type=0: must be a string"),
        ([SPACE.format("loss.smooth={uniform: [-1.0, 1.0]}")], "loss.smooth=-1.0: must be above 0"),
        (
            [SPACE.format("model.image_size={choice: [128, 100]}")],
            "model.image_size=100: must be a positive multiple",
        ),
        ([SPACE.format("optimizer.encoder_lr={uniform: [0.1, 1]}")], "no part of image_encoder trains"),
        ([SPACE.format("scheduler.step_size={integer: [1, 9]}")], "it has no use for it"),
        ([SPACE.format("output_dir={choice: [a, b]}")], "output_dir: says where a run is stored or runs"),
        (
            [SPACE.format("trainer.devices={choice: [1, 2]}")],
            "trainer.devices: says where a run is stored or runs",
        ),
        (
            [SPACE.format("dataset.data_path={choice: [a, b]}")],
            "dataset.data_path: changes what J and F are measured on",
        ),
        (["sweep.space=null"], "sweep.space: is empty; name at least one setting to vary"),
        (["sweep.space=5"], "sweep.space=5: must be a mapping of names to values"),
        ([SPACE.format("dataset.frame_stride={}")], "frame_stride: has nothing; allowed are one of uniform"),
        (
            [SPACE.format("dataset.frame_stride={choice: [1, 2], step: 1}")],
            "a choice has no steps; leave it out",
        ),
        (
            [SPACE.format("video_clip_length={integer: [1, 2]}")],
            "video_clip_length is no setting",
        ),
        (
            [SPACE.format("dataset.frame_stride={integer: [1, 10], step: 4}")],
            "from 1 it reaches 9, not 10; give that as end",
        ),
        ([SPACE.format("model.image_size={integer: [64, 128]}")], "model.image_size=65: must be a positive"),
        ([SPACE.format("trainer.max_steps={integer: [-1, 3]}")], "trainer.max_steps=0: must be at least 1"),
        (
            ["+sweep.space={optimizer.lr: {choice: [0.1, 0.2]}}"],
            "optimizer.lr: is given twice, nested and by its dotted name",
        ),
        (
            ["sweep.algorithm=grid", SPACE.format("seed={integer: [1, 1000000000]}")],
            "a grid needs countable values",
        ),
        (
            [SPACE.format("ray.num_workers={choice: [1, 2]}")],
            "ray.num_workers: says where a run is stored or runs",
        ),
        (
            [SPACE.format("valdataset.prompt_types={choice: [[mask], [box]]}")],
            "changes what J and F are measured on",
        ),
        (
            [SPACE.format("val_fraction={uniform: [0.1, 0.2]}")],
            "val_fraction: changes what J and F are measured on",
        ),
        (
            ["split=video", SPACE.format("seed={integer: [0, 9]}")],
            "seed: changes what J and F are measured on",
        ),
        (["sweep.objectives=[val/loss]"], "'val/loss' is nothing to compare trials by; allowed are val/J&F"),
        (["sweep.objectives=[val/loss]"], "losses cannot be compared where their weights vary"),
        (["sweep.objectives=['val/davis/J&F']"], "judged by its best validation, which on a further set"),
        (
            [SPACE.format("valdatasets.davis.prompt_types={choice: [[mask], [box]]}")],
            "changes what J and F are measured on",
        ),
        (["sweep.objectives=[]"], "must be one or two different ones"),
        (["sweep.objectives=[val/J,val/F,'val/J&F']"], "must be one or two different ones"),
        (["sweep.algorithm=bayes"], "sweep.algorithm='bayes': must be one of tpe, random, grid"),
        (["sweep.scheduler=bohb"], "sweep.scheduler='bohb': must be one of asha, median, pbt, none"),
        (["sweep.num_trials=0"], "sweep.num_trials=0: must be at least 2"),
        (["sweep.max_concurrent=0"], "sweep.max_concurrent=0: must be at least 1"),
        (["sweep.num_trials=many"], "sweep.num_trials='many': must be an integer"),
        (["+sweep.trials=3"], "sweep.trials: unknown key"),
        (["sweep.grace=1.0"], "sweep.grace=1.0: must be above 0 and below 1"),
        (["sweep.algorithm=grid"], "sweep.space.loss.bce_weight: a grid needs countable values"),
        (["sweep.scheduler=pbt", "sweep.num_trials=2"], "sweep.num_trials=2: pbt needs at least 3"),
        (["sweep.scheduler=pbt", "sweep.objectives=[val/J,val/F]"], "pbt follows a single one"),
        (
            ["sweep.scheduler=pbt", SPACE.format("seed={integer: [0, 9]}")],
            "seed: cannot change in the middle of a run",
        ),
        (
            ["sweep.scheduler=pbt", SPACE.format("loss.focal_weight={log_uniform: [1, 2], or: 0}")],
            "pbt moves values",
        ),
        (
            ["sweep.scheduler=pbt", "optimizer.encoder_lr=1.0e-5", "model.trainable_modules=['*']"],
            "has to follow it",
        ),
        (["trainer.limit_val_batches=0"], "trials are compared by validations, of which there are none"),
        (["save_dir=/tmp/elsewhere"], "each trial keeps its checkpoints in a folder of its own"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_starts(
    tmp_path: Path, overrides: list[str], said: str
) -> None:
    assert said in fault(tmp_path, "sweep=joint", *overrides)


def test_a_grid_that_explodes_is_counted(tmp_path: Path) -> None:
    space = {"seed": "{integer: [0, 9]}", "loss.bce_weight": "{uniform: [0, 1], step: 0.1}"}
    overrides = [f"{SPACE.format(name)}={leaf}" for name, leaf in space.items()]
    text = fault(tmp_path, "sweep=default", "sweep.algorithm=grid", *overrides)
    assert "10 (seed) x 11 (loss.bce_weight) = 110 points" in text
    assert "111 trials, but sweep.num_trials=16" in text
    enough = sweep_of(tmp_path, "sweep=default", "sweep.algorithm=grid", "sweep.num_trials=111", *overrides)
    assert len(list(enough.space.grid())) == 110


def test_an_empty_space(tmp_path: Path) -> None:
    assert "sweep.space: is empty" in fault(tmp_path, "sweep=default")


def test_a_fault_that_another_swept_setting_may_mend_is_left_to_the_trial(tmp_path: Path) -> None:
    """`step_size` alone would have no effect, but beside its condition it has."""
    overrides = [
        SPACE.format("scheduler.type={choice: [cosine, step]}"),
        SPACE.format("scheduler.step_size={integer: [10, 50], when: {scheduler.type: step}}"),
    ]
    assert "scheduler.step_size" in sweep_of(tmp_path, "sweep=default", *overrides).space.fields
