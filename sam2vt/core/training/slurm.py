"""Run under SLURM: the tasks that `srun` starts on a node are the ranks of one run.

Lightning's own plug-in refuses tasks that were not started as it expects, or waits for them. It also ignores
SIGTERM, and writes its own checkpoints for a requeued job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from sam2vt.config import TrainerConfig
from sam2vt.errors import ConfigError

log = logging.getLogger(__name__)

# Of SLURM, torchrun and MPI; Lightning reads most of them as it is imported.
_RANKS = (
    *("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"),
    *("NODE_RANK", "GROUP_RANK", "MASTER_PORT"),
)


class Step(NamedTuple):
    """Several tasks started by one `srun`, as seen by one of them."""

    tasks: int
    nodes: int
    rank: int  # of this task on its node
    job: str


def check_ranks() -> None:
    """Raise ConfigError if a launcher's variable is not a number; call it before Lightning is imported."""
    for name in _RANKS:
        _number(os.environ, name)


def slurm_step(variables: Mapping[str, str] | None = None) -> Step | None:
    """Return the step that this process is a task of; None for a single task, and outside `srun`.

    `variables` are those of the environment by default. Raises ConfigError for values that are not numbers.
    """
    variables = os.environ if variables is None else variables
    tasks = _number(variables, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    # A batch script has the variables of its job, but only `srun` starts the tasks.
    if tasks == 1 or "SLURM_STEP_ID" not in variables:
        return None
    nodes = _number(variables, "SLURM_STEP_NUM_NODES", "SLURM_NNODES")
    rank = _number(variables, "SLURM_LOCALID", "SLURM_PROCID")
    return Step(tasks, nodes, rank, variables.get("SLURM_JOB_ID", "0"))


def slurm_arguments(config: TrainerConfig) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that make this task a rank; {} outside SLURM.

    Sets the variables by which the ranks find each other. Raises ConfigError if tasks and devices differ, and
    for several nodes.
    """
    # torchrun and Ray start their ranks themselves, on a node of SLURM too.
    if "SLURM_NTASKS" not in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        return {}
    from lightning.fabric.plugins.environments import LightningEnvironment

    step = slurm_step()
    if step is None:
        if _number(os.environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") > 1:
            log.warning(
                "SLURM: the job has several tasks, but srun started none of them: training in this one"
            )
        return {"plugins": [LightningEnvironment()]}
    _check(step, config)
    port = 20_000 + int("".join(filter(str.isdecimal, step.job + os.environ["SLURM_STEP_ID"])) or 0) % 10_000
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ.update({name: os.environ.get(name, value) for name, value in found.items()})
    os.environ["LOCAL_RANK"] = str(step.rank)
    devices = config.devices if isinstance(config.devices, (list, tuple)) else step.tasks
    return {"plugins": [LightningEnvironment()], "devices": devices}


def _check(step: Step, config: TrainerConfig) -> None:
    if step.nodes > 1:
        raise ConfigError(
            f"SLURM: srun started {step.tasks} tasks on {step.nodes} nodes; allowed is one node: give "
            f"--nodes=1, or train on several nodes by Ray (docs/slurm.md)"
        )
    devices = config.devices
    number = len(devices) if isinstance(devices, (list, tuple)) else devices
    if number not in ("auto", -1, step.tasks):
        raise ConfigError(
            f"trainer.devices={devices}: srun started {step.tasks} tasks, and each trains on one device; set "
            f"trainer.devices={step.tasks}, or start as many tasks: srun --ntasks={number}"
        )
    import torch

    seen = torch.cuda.device_count()
    if config.accelerator in ("gpu", "cuda", "auto") and 0 < seen < step.tasks:
        raise ConfigError(
            f"trainer.devices={devices}: a task sees {seen} GPUs, and srun started {step.tasks} tasks; give "
            f"all tasks all GPUs of the job (--gpus-per-node={step.tasks}, no --gpus-per-task), or start "
            f"fewer tasks"
        )


def _number(variables: Mapping[str, str], *names: str) -> int:
    """Return the first of these variables that is set, by default 1."""
    name = next((each for each in names if each in variables), None)
    if name is None:
        return 1
    if not variables[name].isdecimal():
        raise ConfigError(
            f"{name}={variables[name]}: must be a number, as a launcher (SLURM) sets it; else unset it"
        )
    return int(variables[name])
