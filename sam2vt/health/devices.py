"""Check the processors and GPUs that this process may use, without torch, which takes seconds to load."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from sam2vt.health.finding import NOTE, Finding

_CGROUP = Path("/sys/fs/cgroup")
_SECONDS = 10  # a driver that hangs does not hang the report
_FIELDS = "index,name,memory.total,driver_version"


def devices() -> Iterator[Finding]:
    """Yield the CPUs and every GPU."""
    all_cpus, usable = os.cpu_count() or 1, usable_cpus()
    limited = "" if usable >= all_cpus else f" of {all_cpus}, as this process may use them"
    yield Finding("CPUs", f"{usable:g}{limited}")
    yield from _gpus()


def has_gpu_driver() -> bool:
    """Return False only on Linux without NVIDIA's driver and AMD's: torch finds no GPU there."""
    devices = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's, also below Windows, and AMD's
    if sys.platform != "linux" or any(map(os.path.exists, devices)):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def usable_cpus(cgroup: Path = _CGROUP) -> float:
    """Return the number of CPUs that this process may use, by its affinity and its container's share."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min(cpus, _quota(cgroup))


def _quota(cgroup: Path) -> float:
    """Return the CPUs that a control group allows, infinity for no limit."""
    files = {"cpu.max": "", "cpu/cpu.cfs_quota_us": "cpu/cpu.cfs_period_us"}  # versions 2 and 1
    for name, period in files.items():
        try:
            words = (cgroup / name).read_text().split()
            words += (cgroup / period).read_text().split() if period else []
            return int(words[0]) / int(words[1]) if int(words[0]) > 0 else math.inf
        except (OSError, ValueError, IndexError):  # "max" is no number
            continue
    return math.inf


def _gpus() -> Iterator[Finding]:
    rows = _nvidia_smi(f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
    if rows is None:
        yield _without_nvidia()
        return
    for row in rows.strip().splitlines():
        index, name, memory, driver = (each.strip() for each in row.split(",", 3))
        size = f"{int(memory) / 1024:.0f} GiB" if memory.isdecimal() else memory  # MIG says [N/A]
        yield Finding(f"GPU {index}", f"{name}, {size}, driver {driver}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        yield Finding("visible GPUs", f"CUDA_VISIBLE_DEVICES={hidden}")
    yield _torch_for(_nvidia_smi() or "")


def _without_nvidia() -> Finding:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Finding("GPU", "Apple's, as trainer.accelerator=mps")
    if Path("/dev/kfd").exists():
        built = _torch_builds().get("hip")
        if built is not None:
            return Finding("GPU", f"AMD's, torch is built for ROCm {built}")
        fix = "install the build of torch for ROCm that pytorch.org names"
        return Finding("GPU", "AMD's, but torch is built without ROCm", NOTE, fix)
    if Path("/dev/nvidiactl").exists():
        fix = "run nvidia-smi; what it says is missing, the driver's package or the container's toolkit has"
        return Finding("GPU", "an NVIDIA device, but nvidia-smi does not answer", NOTE, fix)
    return Finding("GPU", "none: training runs on the CPU")


def _nvidia_smi(*options: str) -> str | None:
    try:
        done = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and done.stdout.strip() else None


def _torch_for(shown: str) -> Finding:
    """Return whether the installed torch can use the driver, which says the newest CUDA that it knows."""
    built, driver = _torch_builds().get("cuda"), re.search(r"CUDA Version: (\d+)\.(\d+)", shown)
    if built is None:
        fix = "install the build of torch for CUDA that pytorch.org names"
        return Finding("torch", "is a build for CPUs alone: no GPU is used", NOTE, fix)
    if driver is not None and int(built.partition(".")[0]) > int(driver[1]):
        text = f"is built for CUDA {built}, the driver knows {driver[1]}.{driver[2]}: no GPU is used"
        fix = f"update the driver, or install a build of torch for CUDA {driver[1]}"
        return Finding("torch", text, NOTE, fix)
    return Finding("torch", f"is built for CUDA {built}")


def _torch_builds() -> dict[str, str]:
    """Return what torch was built for, such as {"cuda": "12.4"}, as its file of the version says."""
    spec = find_spec("torch")
    if spec is None or not spec.origin:
        return {}
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return {}
    found = re.findall(r"^(cuda|hip)\b[^=\n]*= *'([^']+)'", text, re.MULTILINE)
    return dict(found)
