"""SLURM's variables: tasks are ranks, and whatever does not fit is one message."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from sam2vt import cli, train
from sam2vt.config import Config, TrainerConfig
from sam2vt.core.training.slurm import Step, check_ranks, slurm_arguments, slurm_step
from sam2vt.errors import ConfigError
from sam2vt.run_folder import own_run_folder

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NNODES": "1",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
SET_HERE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets these variables, and no other one of SLURM's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    monkeypatch.setattr(os, "environ", {name: v for name, v in kept.items() if name not in SET_HERE})
    return lambda **variables: os.environ.update({name: str(value) for name, value in variables.items()})


def test_a_machine_without_slurm(slurm: Any) -> None:
    assert slurm_arguments(TrainerConfig()) == {}


@pytest.mark.parametrize("devices", ["auto", -1, 2, [0, 1]])
def test_the_tasks_of_a_step_are_ranks(slurm: Any, devices: Any) -> None:
    slurm(**STEP)
    found = slurm_arguments(TrainerConfig(accelerator="cpu", devices=devices))
    assert found["devices"] == (devices if isinstance(devices, list) else 2)
    (environment,) = found["plugins"]
    assert isinstance(environment, LightningEnvironment)  # no requeue, no handlers of its own
    assert environment.creates_processes_externally
    assert (environment.local_rank(), environment.node_rank()) == (1, 0)
    assert environment.main_address == "127.0.0.1"
    assert environment.main_port == 20_000 + 7110
    slurm(SLURM_LOCALID=0)
    assert slurm_arguments(TrainerConfig(accelerator="cpu", devices=devices))["plugins"][0].local_rank() == 0


def test_the_trainer_trains_with_ddp(slurm: Any, tmp_path: Any) -> None:
    slurm(**{**STEP, "SLURM_LOCALID": "0", "SLURM_PROCID": "0"})
    config = Config(output_dir=str(tmp_path))
    config.trainer.accelerator, config.trainer.logger = "cpu", False
    trainer = train.create_trainer(config, callbacks=[])
    assert isinstance(trainer.strategy, DDPStrategy)
    assert (trainer.num_devices, trainer.num_nodes) == (2, 1)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"},
        {"SLURM_NTASKS": "1"},
        # A shell of salloc, or a step of one task in a job of several.
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "1"},
        # Lightning would refuse these or wait for other tasks.
        {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "2"},
    ],
)
def test_an_only_task_trains_as_on_any_machine(slurm: Any, variables: dict[str, str], tmp_path: Any) -> None:
    slurm(**variables)
    assert slurm_step() is None
    found = slurm_arguments(TrainerConfig())
    assert list(found) == ["plugins"]
    assert not found["plugins"][0].creates_processes_externally
    config = Config(output_dir=str(tmp_path))
    config.trainer.accelerator, config.trainer.devices, config.trainer.logger = "cpu", 1, False
    assert train.create_trainer(config, callbacks=[]).world_size == 1


def test_a_batch_script_without_srun_is_told_of_its_other_tasks(
    slurm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    slurm(SLURM_NTASKS=4, SLURM_PROCID=0, SLURM_LOCALID=0, SLURM_JOB_ID=1)
    with caplog.at_level(logging.WARNING, "sam2vt"):
        assert "devices" not in slurm_arguments(TrainerConfig())
    assert "srun started none of them" in caplog.text


def test_torchrun_on_a_node_of_slurm_is_left_alone(slurm: Any) -> None:
    slurm(**STEP, TORCHELASTIC_RUN_ID="1")
    assert slurm_arguments(TrainerConfig()) == {}


@pytest.mark.parametrize(
    ("variables", "devices", "message"),
    [
        ({}, 1, r"trainer\.devices=1: srun started 2 tasks.*trainer\.devices=2.*--ntasks=1"),
        ({}, 4, r"trainer\.devices=4: .*--ntasks=4"),
        ({}, [0], r"trainer\.devices=\[0\]: .*--ntasks=1"),
        ({"SLURM_STEP_NUM_NODES": "2"}, "auto", r"2 tasks on 2 nodes; allowed is one.*docs/slurm\.md"),
        ({"SLURM_STEP_NUM_TASKS": "two"}, "auto", "SLURM_STEP_NUM_TASKS=two: must be a number"),
        ({"SLURM_LOCALID": "-"}, "auto", "SLURM_LOCALID=-: must be a number"),
    ],
)
def test_what_does_not_fit_is_one_message(
    slurm: Any, variables: dict[str, str], devices: Any, message: str
) -> None:
    slurm(**{**STEP, **variables})
    with pytest.raises(ConfigError, match=message):
        slurm_arguments(TrainerConfig(accelerator="cpu", devices=devices))
    assert "LOCAL_RANK" not in os.environ


def test_tasks_with_a_gpu_of_their_own_each(slurm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(**STEP)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"a task sees 1 GPUs.*--gpus-per-node=2, no --gpus-per-task"):
        slurm_arguments(TrainerConfig(devices=2))
    slurm_arguments(TrainerConfig(accelerator="cpu", devices=2))


@pytest.mark.parametrize("name", ["SLURM_PROCID", "RANK", "LOCAL_RANK", "JSM_NAMESPACE_RANK", "MASTER_PORT"])
@pytest.mark.parametrize("value", ["", "one", "-"])
def test_ranks_that_are_no_numbers_are_one_message(slurm: Any, name: str, value: str) -> None:
    """Lightning reads them as it is imported, which would be a traceback."""
    check_ranks()
    slurm(**{name: value})
    for read in (check_ranks, lambda: train.train(Config()), lambda: own_run_folder([]).__enter__()):
        with pytest.raises(ConfigError, match=f"^{name}={value}: must be a number"):
            read()
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--help"])
    assert end.value.code == 2


def test_the_only_variables_that_are_needed(slurm: Any) -> None:
    assert slurm_step({"SLURM_STEP_ID": "3", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}) == Step(2, 1, 1, "0")
