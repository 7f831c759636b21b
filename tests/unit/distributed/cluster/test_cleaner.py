"""Two Rays on one machine: a run of one is not taken for dead because the other does not know it."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from sam2vt.distributed.cluster.cleaner import OwnCleanerCallback
from sam2vt.distributed.cluster.session import sigterm_as_before


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
