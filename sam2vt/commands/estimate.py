"""`sam2vt estimate`: what a training needs in memory, and what would make it fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.errors import ConfigError

if TYPE_CHECKING:
    from sam2vt.core.training.footprint.estimate import Estimate

MB, GB = 1e6, 1e9
UNITS = {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}


def print_estimate(overrides: Sequence[str], limit: str | None = None) -> bool:
    """Print what a training needs; False where that exceeds a `limit` such as 8GB, with what would help."""
    from sam2vt.core.training.footprint.estimate import estimate

    limit_bytes = None if limit is None else parse_size(limit)
    composed = compose_config(overrides)
    if not composed.dataset.datasets:
        composed.dataset.data_path = composed.dataset.data_path or "."  # data is not looked at
    config = load_config(composed)
    found = estimate(config)
    print("\n".join(_table(found)))
    if limit_bytes is None:
        return True
    if found.device_bytes <= limit_bytes:
        print(f"fits into {limit}")
        return True
    from sam2vt.core.training.footprint.out_of_memory import fitting_lines

    fixed = found.on_device.get("libraries", 0.0) + found.on_device.get("context", 0.0)
    if limit_bytes <= fixed:
        print(f"does not fit into {limit}: {fixed / GB:.2f} GB are taken before the network is there")
        return False
    print(f"does not fit into {limit}; each of these alone would make it fit:")
    none = "none: frames, objects and pixels have to shrink together, with model.recompute"
    for line in fitting_lines(config, limit_bytes) or [none]:
        print(f"  {line}")
    return False


def parse_size(text: str) -> float:
    """Bytes of a size such as 8GB or 7.5GiB; raises ConfigError."""
    for unit, factor in UNITS.items():
        number = text.removesuffix(unit).strip()
        if text.endswith(unit) and number.replace(".", "", 1).isdecimal() and float(number) > 0:
            return float(number) * factor
    raise ConfigError(f"--limit {text}: must be a number with a unit of {', '.join(UNITS)}, such as 8GB")


def _table(found: Estimate) -> list[str]:
    where = "GPU" if found.device == "cuda" else "this process"
    lines = [f"{name:<20}{value / GB:9.2f} GB" for name, value in found.on_device.items()]
    lines.append(f"{'in all, ' + where:<20}{found.device_bytes / GB:9.2f} GB")
    lines += [f"{'host: ' + name:<20}{value / GB:9.2f} GB" for name, value in found.on_host.items()]
    if found.frame_features:
        lines.append(f"{'disk: feature cache':<20}{found.frame_features / MB:9.2f} MB a frame")
    return lines
