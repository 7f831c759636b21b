"""Change Ray Train's TorchTrainer where it would cost a run steps, and end a run cleanly."""

from __future__ import annotations

from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.scaling_policy import autoscaling_coordinator_client as reservations

from sam2vt.distributed.cluster.cleaner import OwnCleanerCallback

RESERVED_SECONDS = 45  # a run renews its reservation every 20 s

# Ray has no public place for these; a test of each fails where a new version moves it.


class RunTrainer(TorchTrainer):
    """Leaves Ctrl-C to the driver, and keeps the size of an elastic run while a machine of it is drained."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Ray's handler would abort the run unsaved and end with 0."""

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        scaling: Any = self.scaling_config
        if scaling.elasticity_enabled:
            arguments["scaling_policy"] = PatientScaling(scaling)
        return super()._initialize_and_run_controller(**arguments)  # type: ignore[misc]

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [
            OwnCleanerCallback() if isinstance(c, PlacementGroupCleanerCallback) else c for c in callbacks
        ]


class PatientScaling(ElasticScalingPolicy):
    """Does not shrink a run before its workers know of a drain and have saved."""

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Return Ray's decision, or none while a machine of the group is drained."""
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        draining = ray._private.state.state.get_draining_nodes()
        is_drained = any(worker.metadata.node_id in draining for worker in worker_group_state.workers)
        if is_drained and isinstance(decision, ResizeDecision):
            return NoopDecision()
        return decision


class AnnounceController(ControllerCallback):
    """Posts the controller on the board, so that a sweep can end the run.

    A killed controller leaves its resources reserved for three minutes, while other trials starve; this
    shortens the time.
    """

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        """Run in the controller's process, before it starts workers."""
        reservations.AUTOSCALING_REQUESTS_EXPIRE_TIME_S = RESERVED_SECONDS
        ray.get(self._board.set_controller.remote(ray.get_runtime_context().current_actor))


def abort_run(board: Any, timeout_seconds: float = 30.0) -> None:
    """End the run that posts to `board`, unsaved; returns when its processes and resources are released."""
    controller = ray.get(board.get_controller.remote())
    if controller is None:
        return
    try:
        ray.get(controller.abort.remote(), timeout=timeout_seconds)
    except ray.exceptions.RayError:
        return  # the controller ends its own process, or has ended before
