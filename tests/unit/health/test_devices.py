"""CPUs of control groups, and GPUs as nvidia-smi tells of them."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from sam2vt.health import devices
from sam2vt.health.finding import NOTE, OK

CARDS = "0, NVIDIA H200, 143771, 550.54.15\n1, NVIDIA H200 MIG 1g, [N/A], 550.54.15\n"
HEADER = "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n"


def smi(monkeypatch: pytest.MonkeyPatch, cards: str | None, header: str = HEADER) -> None:
    def run(command: list[str], **_: object) -> SimpleNamespace:
        if cards is None:
            raise FileNotFoundError(command[0])
        return SimpleNamespace(returncode=0, stdout=cards if len(command) > 1 else header)

    monkeypatch.setattr(subprocess, "run", run)


def built_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str) -> None:
    (tmp_path / "version.py").write_text(f"__version__ = '2'\ncuda: Optional[str] = {cuda}\nhip = None\n")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(devices, "find_spec", lambda name: spec)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu.max": "\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_containers_share_of_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: float
) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert devices.usable_cpus(tmp_path) == min(cpus, 8)


def test_cpus_that_others_have_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(devices, "usable_cpus", lambda: 2.0)
    assert next(devices.devices()).value == "2 of 8, as this process may use them"


def test_cards_with_memory_and_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi(monkeypatch, CARDS)
    built_for(monkeypatch, tmp_path, "'12.6'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    _, *found = devices.devices()
    assert [(each.name, each.value) for each in found] == [
        ("GPU 0", "NVIDIA H200, 140 GiB, driver 550.54.15"),
        ("GPU 1", "NVIDIA H200 MIG 1g, [N/A], driver 550.54.15"),
        ("visible GPUs", "CUDA_VISIBLE_DEVICES=1"),
        ("torch", "is built for CUDA 12.6"),
    ]
    assert {each.state for each in found} == {OK}


@pytest.mark.parametrize(
    ("cuda", "value", "fix"),
    [
        ("None", "is a build for CPUs alone: no GPU is used", "install the build of torch for CUDA"),
        ("'13.0'", "is built for CUDA 13.0, the driver knows 12.4: no GPU is used", "update the driver, or"),
    ],
)
def test_a_torch_that_cannot_use_the_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str, value: str, fix: str
) -> None:
    smi(monkeypatch, CARDS)
    built_for(monkeypatch, tmp_path, cuda)
    *_, last = devices.devices()
    assert (last.name, last.value, last.state) == ("torch", value, NOTE)
    assert last.fix.startswith(fix)


def test_without_a_driver_the_cpu_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    smi(monkeypatch, None)
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.Path, "exists", lambda path: False)
    *_, last = devices.devices()
    assert (last.value, last.state) == ("none: training runs on the CPU", OK)
    monkeypatch.setattr(devices.Path, "exists", lambda path: str(path) == "/dev/nvidiactl")
    *_, last = devices.devices()
    assert last.state == NOTE
    assert "nvidia-smi" in last.fix


def test_a_driver_that_hangs_does_not_hang_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert len(list(devices.devices())) == 2
