"""What is changed of Ray Train lies in private places: a version that moves them fails here."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
from ray.cluster_utils import Cluster
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ResizeDecision

from sam2vt.distributed.cluster.ray_trainer import OwnCleanerCallback, PatientScaling, RunTrainer
from sam2vt.distributed.cluster.session import sigterm_as_before

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


@pytest.fixture
def two_rays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray of this process without a dashboard, and one that has its at the port of the first one."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # paths of sockets must be short
    monkeypatch.setenv("RAY_TMPDIR", folder)  # the newest cluster's address lies there
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with sigterm_as_before():
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            dashboard_port=port,
            log_to_driver=False,
            logging_level="ERROR",
        )
        options = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
        other = Cluster(initialize_head=True, head_node_args=options)
        try:
            yield
        finally:
            other.shutdown()
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


class Controller:
    """Starts the process that watches it, as a controller does."""

    def start(self, callback: PlacementGroupCleanerCallback) -> Any:
        """The process."""
        callback.after_controller_start(SimpleNamespace(run_id="run"))  # type: ignore[arg-type]
        cleaner: Any = callback._cleaner
        ray.get(cleaner.__ray_call__.remote(lambda _: None))  # calls of others may come before
        return cleaner


def seen_alive(watching: Any) -> bool:
    """Whether the process takes its controller for alive."""

    def ask(cleaner: Any) -> bool:
        from ray.train.v2._internal.execution.controller import placement_group_cleaner

        return bool(placement_group_cleaner.is_actor_alive(cleaner._controller_actor_id, timeout=30))

    try:
        return ray.get(watching.__ray_call__.remote(ask))
    except ray.exceptions.RayActorError:
        return False  # it ends itself once it has freed what a run had


@pytest.mark.cluster
def test_another_ray_on_the_machine_does_not_end_a_run(two_rays: None) -> None:
    controller = ray.remote(num_cpus=0)(Controller).remote()
    assert not seen_alive(
        ray.get(controller.start.remote(PlacementGroupCleanerCallback()))
    )  # why ours is needed
    watching = ray.get(controller.start.remote(OwnCleanerCallback()))
    assert seen_alive(watching)
    ray.kill(controller)
    until = time.monotonic() + 60
    while seen_alive(watching):
        assert time.monotonic() < until, "a controller that was killed counts as alive"
        time.sleep(0.5)


def test_a_run_has_the_cleaner_that_knows_its_cluster() -> None:
    trainer = RunTrainer(lambda: None)
    kinds = [type(callback) for callback in trainer._create_default_callbacks()]
    assert OwnCleanerCallback in kinds
    assert PlacementGroupCleanerCallback not in kinds
