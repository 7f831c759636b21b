"""The machine, the versions and the spread of repeated figures, as records print them."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

IN_SHORT = "In short: "


def machine() -> str:
    """The processor and its cores."""
    return f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def slug() -> str:
    """The machine in the name of a record, such as 2-core-epyc."""
    name = re.sub(r"\(\w+\)|CPU.*|Processor|AMD|Intel", " ", processor())
    return "-".join([f"{os.cpu_count()}-core", *name.lower().split()])


def versions() -> str:
    """Ray's, too, where it is installed."""
    found = {name: version(name.lower()) for name in ("torch", "Ray") if find_spec(name.lower())}
    return ", ".join([*(" ".join(each) for each in found.items()), f"Python {platform.python_version()}"])


def spread(values: Sequence[float]) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def in_short(text: str) -> str:
    """The line of a record that README's table shows."""
    return f"{IN_SHORT}{text}."
