"""Ray Train's TorchTrainer without two of its ways that cost a run steps, and a way to end it."""

from __future__ import annotations

from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.scaling_policy import autoscaling_coordinator_client as reservations

RESERVED_SECONDS = 45  # a run renews its reservation every 20 s

# Ray has no public place for these; a test of each fails where a new version moves it.


class RunTrainer(TorchTrainer):
    """Leaves Ctrl-C to the driver, and an elastic run's size alone while a machine of it is drained."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Ray's handler would abort the run unsaved and end with 0."""

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        scaling: Any = self.scaling_config
        if scaling.elasticity_enabled:
            arguments["scaling_policy"] = PatientScaling(scaling)
        return super()._initialize_and_run_controller(**arguments)  # type: ignore[misc]


class PatientScaling(ElasticScalingPolicy):
    """Does not shrink a run before its workers have heard of a drain, at which they save."""

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        if isinstance(decision, ResizeDecision) and _is_drained(worker_group_state):
            return NoopDecision()
        return decision


class AnnounceController(ControllerCallback):
    """Lets whoever reads the board end the run: a controller that just dies leaves its resources reserved.

    Where it dies all the same, they are so for less than Ray's three minutes, in which others would starve.
    """

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        reservations.AUTOSCALING_REQUESTS_EXPIRE_TIME_S = RESERVED_SECONDS
        ray.get(self._board.controlled_by.remote(ray.get_runtime_context().current_actor))


def abort_run(board: Any, timeout_seconds: float = 30.0) -> None:
    """End the run that posts to `board`, unsaved; returns when its processes and resources are given back."""
    controller = ray.get(board.controller.remote())
    if controller is None:
        return
    try:
        ray.get(controller.abort.remote(), timeout=timeout_seconds)
    except ray.exceptions.RayError:
        return  # the controller ends its own process, or has ended before


def _is_drained(worker_group_state: Any) -> bool:
    """Whether the end of a machine is announced on which a worker of the group runs."""
    draining = ray._private.state.state.get_draining_nodes()
    return any(worker.metadata.node_id in draining for worker in worker_group_state.workers)
