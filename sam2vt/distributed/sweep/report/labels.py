"""Names and numbers as charts and tables write them."""

from __future__ import annotations

import math
import re

from sam2vt.distributed.sweep.trials import Objective


def score_label(name: str, value: float) -> str:
    """An objective in few characters."""
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.3f}" if name.startswith("val/") else f"{value:.3g}"


def short_name(name: str) -> str:
    """An objective as people call it."""
    return name.removeprefix("val/").replace("_", " ")


def axis_name(objective: Objective) -> str:
    return f"{short_name(objective.name)}, {'higher' if objective.mode == 'max' else 'lower'} is better"


def wrapped(name: str, width: int) -> str:
    """In lines of about `width` characters, broken where a name or a list has a joint."""
    lines = [""]
    for part in re.findall(r"[^._ ,]+[._ ,]*|[._ ,]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(cut(line.strip(), max(width, 12)) for line in lines[:4])


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
