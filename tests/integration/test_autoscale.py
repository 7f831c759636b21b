"""A job on a cluster that scales: its nodes come when it asks for them, and go when it has ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.job_submission import JobSubmissionClient

from sam2vt.core.data.writing.sample_data import write_sample_data
from tests.integration.one_clip import ONE_CLIP

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

REPO = Path(__file__).resolve().parents[2]
STEPS, RUN_SECONDS, SHRINK_SECONDS = 6, 300, 180
STORE = {"object_store_memory": 200 * 2**20}
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
SMALL = (
    *ONE_CLIP,
    *("dataset.video_clip_length=2", "scheduler.warmup_steps=1", "trainer.num_overlay_videos=0"),
    *(f"trainer.max_steps={STEPS}", "ray.local_cpus=null"),
    *("ray.worker_resources={trainer_slot: 1}", "ray.decode_labels={pool: data}"),
)
# The node types of cluster.yaml, as nodes of this machine.
CLUSTER = {
    "cluster_name": "fake",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.1,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "launch_multiple": True,
        "disable_node_updaters": True,
        "head_node_id": FAKE_HEAD_NODE_ID,
    },
    "auth": {},
    "docker": {},
    "file_mounts": {},
    **{f"{kind}_commands": [] for kind in COMMANDS},
    "cluster_synced_files": [],
    "head_node_type": FAKE_HEAD_NODE_TYPE,
    "available_node_types": {
        FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0},
        "gpu_train": {
            "resources": {"CPU": 1, "trainer_slot": 1, **STORE},
            "labels": {"pool": "train"},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        },
        "cpu_data": {
            "resources": {"CPU": 2, **STORE},
            "labels": {"pool": "data"},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        },
    },
}


class Cluster:
    """A head that starts nodes of this machine by itself."""

    def __init__(self, start_head: Callable[..., Any]) -> None:
        self.head = start_head(
            *("--num-cpus=0", f"--object-store-memory={STORE['object_store_memory']}"),
            autoscaling=CLUSTER,
            # The autoscaler's second version, which `ray up` and KubeRay start.
            RAY_enable_autoscaler_v2="1",
            RAY_FAKE_CLUSTER="1",
            RAY_CLOUD_INSTANCE_ID=FAKE_HEAD_NODE_ID,
            RAY_OVERRIDE_NODE_ID_FOR_TESTING=FAKE_HEAD_NODE_ID,
            AUTOSCALER_UPDATE_INTERVAL_S="1",
        )
        self._headers = {"Authorization": f"Bearer {self.head.token}"}
        self.jobs = JobSubmissionClient(self.head.dashboard, headers=self._headers)
        self.seen: list[set[str]] = []  # the pools that had a node, each time that changed

    def pools(self) -> set[str]:
        """The pools that have a node now; the head belongs to none."""
        request = Request(f"{self.head.dashboard}/api/v0/nodes?detail=1", headers=self._headers)
        with urlopen(request, timeout=30) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
        alive = [node["labels"] for node in nodes if node["state"] == "ALIVE"]
        assert alive, nodes  # the head
        pools = {labels["pool"] for labels in alive if "pool" in labels}
        if not self.seen or self.seen[-1] != pools:
            self.seen.append(pools)
        return pools

    def until(self, done: Callable[[], bool], seconds: float, job: str) -> float:
        """Seconds until `done`, with an eye on the nodes."""
        started = time.monotonic()
        while True:
            self.pools()
            if done():
                return time.monotonic() - started
            assert time.monotonic() - started < seconds, (self.seen, self.jobs.get_job_logs(job))
            time.sleep(0.5)

    def submit(self, name: str, *overrides: str) -> None:
        """Workers take a slot that only nodes of the pool train have; decoding is for the pool data.

        Without a working directory: these nodes share the folder that each of them would unpack it into anew,
        under the feet of those that work already.
        """
        options = ["--address", self.head.dashboard, "--submission-id", name, "--no-wait"]
        command = ["python", str(REPO / "ray_jobs" / "train.py"), "experiment=demo", *SMALL, *overrides]
        result = self.head.ray("job", "submit", *options, "--", *command)
        assert result.returncode == 0, result.stderr

    def run(self, name: str) -> tuple[int | None, str, float]:
        """The exit code of a job, its log, and how long it took."""
        seconds = self.until(lambda: self.jobs.get_job_status(name).is_terminal(), RUN_SECONDS, name)
        return self.jobs.get_job_info(name).driver_exit_code, self.jobs.get_job_logs(name), seconds


def test_nodes_come_for_a_job_and_go_after_it(start_head: Callable[..., Any], tmp_path: Path) -> None:
    cluster = Cluster(start_head)
    write_sample_data(tmp_path / "videos", num_videos=2, num_frames=6, size=(64, 64))
    paths = [f"dataset.data_path={tmp_path / 'videos'}", f"ray.storage_path={tmp_path}", "ray.name=run"]

    cluster.submit("too much", *paths, "ray.num_workers=2")
    code, logs, _ = cluster.run("too much")
    assert code == 2, logs
    assert "trainer_slot" in logs
    assert cluster.seen == [set()]  # nothing was started for it

    cluster.submit("train", *paths, "ray.num_workers=1")
    code, logs, seconds = cluster.run("train")
    assert code == 0, logs
    assert f"over {STEPS} steps" in logs
    assert {"train", "data"} in cluster.seen, cluster.seen
    gone = cluster.until(lambda: cluster.pools() == set(), SHRINK_SECONDS, "train")
    print(f"nodes came and {STEPS} steps were trained in {seconds:.0f} s; {gone:.0f} s later all had gone")
