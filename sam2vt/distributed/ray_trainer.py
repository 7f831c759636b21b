"""Ray Train's TorchTrainer, but for two of its ways that would cost a run steps it has done."""

from __future__ import annotations

from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)

# Ray has no public place for either change; a test of each fails where a new version moves it.


class RunTrainer(TorchTrainer):
    """Leaves Ctrl-C to the driver, and an elastic run's size alone while a machine of it is drained."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Ray's handler would abort the run unsaved and end with 0."""

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        if self.scaling_config.elasticity_enabled:
            arguments["scaling_policy"] = PatientScaling(self.scaling_config)
        return super()._initialize_and_run_controller(**arguments)


class PatientScaling(ElasticScalingPolicy):
    """Does not shrink a run before its workers have heard of a drain, at which they save."""

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        if isinstance(decision, ResizeDecision) and _is_drained(worker_group_state):
            return NoopDecision()
        return decision


def _is_drained(worker_group_state: Any) -> bool:
    """Whether the end of a machine is announced on which a worker of the group runs."""
    draining = ray._private.state.state.get_draining_nodes()
    return any(worker.metadata.node_id in draining for worker in worker_group_state.workers)
