"""What the patterns of `model.trainable_modules` may match, before there is a network."""

from __future__ import annotations

import re

from sam2vt.config import Config


def trains(config: Config, part: str) -> bool:
    """Whether `part` of the network, or something in it, may train."""
    return any(reaches(pattern, part) for pattern in config.model.trainable_modules)


def reaches(pattern: str, part: str) -> bool:
    """Whether a pattern of trainable modules may reach into `part` of the network."""
    start = literal_start(pattern)
    if start != pattern:
        return f"{part}.".startswith(start) or start.startswith(f"{part}.")
    return f"{pattern}.".startswith(f"{part}.") or part.startswith(f"{pattern}.")


def literal_start(pattern: str) -> str:
    """A pattern up to its first wildcard."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]
