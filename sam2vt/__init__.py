"""Fine-tune SAM 2 for video object segmentation, from a laptop to an autoscaling Ray cluster."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Tracker":  # late: it loads torch
        from sam2vt.core.prediction.tracker import Tracker

        return Tracker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
