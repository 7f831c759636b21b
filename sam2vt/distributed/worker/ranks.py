"""How all ranks come to the same decision at the same step, without a wait for the device."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist


class RankZero:
    """Sends numbers of rank 0 to all ranks over the CPU; every rank must call equally often."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timedelta(seconds=timeout_seconds)
        self._group: Any = None

    def send(self, values: Sequence[float]) -> list[float]:
        """The `values` of rank 0."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return list(values)
        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self._timeout)
        numbers = torch.tensor(list(values), dtype=torch.float64)
        dist.broadcast(numbers, src=0, group=self._group)
        return numbers.tolist()
