"""What is changed of Ray Train lies in private places: a version that moves them fails here."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ResizeDecision

from sam2vt.distributed.cluster.cleaner import OwnCleanerCallback
from sam2vt.distributed.cluster.ray_trainer import PatientScaling, RunTrainer

SMALLER = ResizeDecision(num_workers=1, resources_per_worker={"CPU": 1})


def test_ray_train_does_not_take_the_interrupt() -> None:
    assert callable(TorchTrainer._register_sigint_handler)
    before = signal.getsignal(signal.SIGINT)
    RunTrainer(lambda: None)._register_sigint_handler(None)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("num_workers", [2, (1, 2)])
def test_an_elastic_run_scales_patiently(monkeypatch: pytest.MonkeyPatch, num_workers: Any) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        TorchTrainer, "_initialize_and_run_controller", lambda self, **arguments: given.update(arguments)
    )
    scaling = ray.train.ScalingConfig(num_workers=num_workers)
    RunTrainer(lambda: None, scaling_config=scaling)._initialize_and_run_controller(scaling_policy="Ray's")
    assert isinstance(given["scaling_policy"], PatientScaling) == (num_workers == (1, 2))


@pytest.mark.parametrize(
    ("draining", "decided"), [({}, SMALLER), ({"other": 0}, SMALLER), ({"mine": 0}, None)]
)
def test_a_run_is_left_alone_while_a_machine_of_it_is_drained(
    monkeypatch: pytest.MonkeyPatch, draining: dict[str, int], decided: ResizeDecision | None
) -> None:
    monkeypatch.setattr(
        ElasticScalingPolicy, "make_decision_for_running_worker_group", lambda *_, **__: SMALLER
    )
    monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", lambda: draining)
    worker = SimpleNamespace(metadata=SimpleNamespace(node_id="mine"))
    policy = PatientScaling(ray.train.ScalingConfig(num_workers=(1, 2)))
    decision = policy.make_decision_for_running_worker_group(SimpleNamespace(workers=[worker]), None)
    assert decision == decided if decided else isinstance(decision, NoopDecision)


def test_a_run_has_the_cleaner_that_knows_its_cluster() -> None:
    trainer = RunTrainer(lambda: None)
    kinds = [type(callback) for callback in trainer._create_default_callbacks()]
    assert OwnCleanerCallback in kinds
    assert PlacementGroupCleanerCallback not in kinds
