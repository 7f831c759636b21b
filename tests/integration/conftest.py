"""A configuration that trains the nano network in seconds, and Ray clusters as users start them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.util import get_node_ip_address

from sam2vt.config import Config
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.distributed.cluster.capacity import CONFIG_VARIABLE

BIN = Path(sys.executable).parent
START_SECONDS, END_SECONDS = 120, 60


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Config:
    """Three videos of 5 frames at 64 px, an epoch of 3 steps. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("videos") / "data"
    write_sample_data(folder, num_videos=3, num_frames=5, size=(48, 64))
    config = Config(max_objects=2, seed=7, output_dir=str(tmp_path_factory.mktemp("run")))
    config.model.config_path = "network/sam2.1_nano.yaml"
    config.model.image_size, config.model.max_objects = 64, 2
    config.model.trainable_modules = ["memory_attention", "memory_encoder", "mask_decoder"]
    config.dataset.data_path = str(folder)
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size = (64, 64)
        dataset.video_clip_length = 2
        dataset.num_workers = 0
    config.dataset.prompt_types = ["mask"]
    config.optimizer.lr = 1e-3
    config.scheduler.enabled = False
    config.trainer.accelerator, config.trainer.devices = "cpu", 1
    config.trainer.max_epochs = 1
    config.trainer.logger = config.trainer.enable_progress_bar = False
    config.trainer.log_every_n_steps = 1
    config.trainer.num_overlay_videos = 0
    return config


class RayHead:
    """A `ray start --head --block` with token authentication, on free ports and in a folder of its own.

    `environment` is what `ray` is run with to reach it: nothing else holds its token. `autoscaling` is a
    cluster configuration, to which the head's own address is added.
    """

    def __init__(self, *options: str, autoscaling: dict[str, Any] | None = None, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of sockets must be short
        self.token = secrets.token_hex(32)
        (self.folder / "token").write_text(self.token)
        gcs, dashboard, client, agent, metrics = _free_ports(5)
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}
        self.environment["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        ports += [f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"]
        if autoscaling is not None:
            address = {"gcs_address": f"{get_node_ip_address()}:{gcs}"}
            config = {**autoscaling, "provider": {**autoscaling["provider"], **address}}
            (self.folder / "cluster.json").write_text(json.dumps(config))
            options = (*options, f"--autoscaling-config={self.folder / 'cluster.json'}")
            environment[CONFIG_VARIABLE] = str(self.folder / "cluster.json")
        command = [str(BIN / "ray"), "start", "--head", "--block", f"--temp-dir={self.folder}", *ports]
        command += ["--dashboard-host=127.0.0.1", "--disable-usage-stats", *options]
        environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # it would wait half a minute for actors
        with (self.folder / "head.log").open("w") as log:
            self.process = subprocess.Popen(
                command, env={**self.environment, **environment}, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Until Ray says that it runs, the dashboard with it."""
        until = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in (log := (self.folder / "head.log").read_text()):
            assert self.process.poll() is None, log
            assert time.monotonic() < until, log
            time.sleep(0.3)

    def ray(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The `ray` command line, with `environment` over what reaches this head."""
        return subprocess.run(
            [str(BIN / "ray"), *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )

    def end(self) -> None:
        """End what this head has started, and nothing else on the machine."""
        started = _descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        now = {pid: born for pid, (born, _) in _processes().items()}
        for pid, born in started.items():
            if now.get(pid) == born:  # and no later process of the same id
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def start_head() -> Iterator[Callable[..., RayHead]]:
    """Starts heads, which end with the module's tests."""
    heads: list[RayHead] = []

    def start(*options: str, **arguments: Any) -> RayHead:
        heads.append(RayHead(*options, **arguments))
        heads[-1].wait()
        return heads[-1]

    yield start
    for head in heads:
        head.end()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _processes() -> dict[int, tuple[int, int]]:
    """Birth and parent of every process by its id, without zombies."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields[0] != "Z":
            found[int(stat.parent.name)] = (int(fields[19]), int(fields[1]))
    return found


def _descendants(pid: int) -> dict[int, int]:
    """Birth of each process below `pid`, by its id."""
    processes = _processes()
    found: dict[int, int] = {}
    parents = {pid}
    while parents:
        parents = {child for child, (_, parent) in processes.items() if parent in parents} - set(found)
        found |= {child: processes[child][0] for child in parents}
    return found
