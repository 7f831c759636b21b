"""`sam2vt train`: every argument is Hydra's."""

from __future__ import annotations

from collections.abc import Sequence

from sam2vt import train


def run(arguments: Sequence[str]) -> None:
    """Train; see `sam2vt.train.main`."""
    train.main(arguments)
