"""The parts that all benchmarks share: arguments, the machine and versions in a record, repeated figures."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

IN_SHORT = "In short: "
# Entries of /proc/cpuinfo and how a record names them.
CPU_FIELDS = {"cpu family": "family", "model": "model", "stepping": "stepping"}


def argument_parser(description: str | None, repeats: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with `--out`, and with `--repeats` if it has a default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help="turns (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="where the record is written, as Markdown")
    return parser


def write_record(text: str, out: Path | None) -> None:
    """Print a record, and write it to `out` if given."""
    print(text)
    if out:
        out.write_text(text + "\n")


def machine() -> str:
    """Return the processor and its cores, such as "AMD EPYC (family 25, model 17, stepping 1), 2 cores".

    Processors of one name differ in what they compute fast: family and model tell them apart.
    """
    info = processor_info()
    told = [f"{label} {info[key]}" for key, label in CPU_FIELDS.items() if key in info]
    family = f" ({', '.join(told)})" if told else ""
    return f"{processor()}{family}, {os.cpu_count()} cores"


def processor() -> str:
    """Return the processor's name."""
    return processor_info().get("model name") or platform.processor() or platform.machine()


def processor_info() -> dict[str, str]:
    """Return the first processor's entries in Linux's /proc/cpuinfo; none elsewhere."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().partition("\n\n")[0] if info.exists() else ""
    return {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())
    }


def slug() -> str:
    """Return the machine in the name of a record, such as 2-core-epyc."""
    name = re.sub(r"\(\w+\)|CPU.*|Processor|AMD|Intel", " ", processor())
    return "-".join([f"{os.cpu_count()}-core", *name.lower().split()])


def versions() -> str:
    """Return the versions of torch, of Ray where it is installed, and of Python."""
    found = {name: version(name.lower()) for name in ("torch", "Ray") if find_spec(name.lower())}
    return ", ".join([*(" ".join(each) for each in found.items()), f"Python {platform.python_version()}"])


def begin_peak() -> float:
    """Let this process's highest resident size count from here on; return the size in MB."""
    ctypes.CDLL(None).malloc_trim(0)  # glibc may hold what was freed before
    Path("/proc/self/clear_refs").write_text("5")
    return status_megabytes("VmRSS")


def status_megabytes(name: str) -> float:
    """Return an entry of this process's /proc/self/status: VmRSS the resident size, VmHWM the highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def spread(values: Sequence[float]) -> str:
    """Return the median (lowest to highest)."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def in_short(text: str) -> str:
    """Return the line of a record that README's table shows."""
    return f"{IN_SHORT}{text}."
