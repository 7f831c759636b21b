"""`sam2vt estimate`: the memory that a training needs, and what would make it fit."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vt.commands.arguments import add_overrides
from sam2vt.composing import load_overrides
from sam2vt.errors import ConfigError
from sam2vt.imports import importing

if TYPE_CHECKING:
    from sam2vt.core.training.footprint.estimate import Estimate

log = logging.getLogger(__name__)

UNITS = {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_overrides(parser, "model=base_plus max_objects=3")
    parser.add_argument("--limit", help="what it has to fit into, such as 8GB; else names what would help")


def run(options: argparse.Namespace) -> None:
    """Print the estimate; exit code 1 if it exceeds the limit."""
    if not print_estimate(options.overrides, options.limit):
        raise SystemExit(1)


def print_estimate(overrides: Sequence[str], limit: str | None = None) -> bool:
    """Print the memory of a training; if it is above a `limit` such as 8GB, add remedies and return False."""
    limit_bytes = None if limit is None else parse_size(limit)
    config = load_overrides(overrides, _without_data)
    log.info("running a training step of %s without its content", Path(config.model.config_path).stem)
    with importing():
        import sam2vt.core.training.trainer  # noqa: F401  a training loads Lightning, which counts too
        from sam2vt.core.training.footprint.estimate import estimate

    found = estimate(config)
    print("\n".join(_table(found)))
    if limit_bytes is None:
        return True
    if found.device_bytes <= limit_bytes:
        print(f"fits into {limit}")
        return True
    from sam2vt.core.training.footprint.out_of_memory import fitting_lines

    # What no setting changes: code and buffers of the libraries, and CUDA's context.
    fixed = found.on_device.get("libraries", 0.0) + found.on_device.get("context", 0.0)
    if limit_bytes <= fixed:
        print(f"does not fit into {limit}: {fixed / 1e9:.2f} GB are taken before the network is there")
        return False
    print(f"does not fit into {limit}; each of these alone would make it fit:")
    none = "none: frames, objects and pixels have to shrink together, with model.recompute"
    for line in fitting_lines(config, limit_bytes) or [none]:
        print(f"  {line}")
    return False


def _without_data(composed: Any) -> None:
    """Let a configuration without data pass: no file of it is read here."""
    if not composed.dataset.datasets:
        composed.dataset.data_path = composed.dataset.data_path or "."


def parse_size(text: str) -> float:
    """Return the bytes of a size such as 8GB or 7.5GiB. Raises ConfigError for other texts."""
    for unit, factor in UNITS.items():
        number = text.removesuffix(unit).strip()
        if text.endswith(unit) and number.replace(".", "", 1).isdecimal() and float(number) > 0:
            return float(number) * factor
    raise ConfigError(f"--limit {text}: must be a number with a unit of {', '.join(UNITS)}, such as 8GB")


def _table(found: Estimate) -> list[str]:
    where = "GPU" if found.device == "cuda" else "this process"
    rows = {**found.on_device, f"in all, {where}": found.device_bytes}
    rows |= {f"host: {name}": value for name, value in found.on_host.items()}
    lines = [f"{name:<20}{value / 1e9:9.2f} GB" for name, value in rows.items()]
    if found.frame_features:
        lines.append(f"{'disk: feature cache':<20}{found.frame_features / 1e6:9.2f} MB per frame")
    return lines
