"""Axes for the values of a setting: by size, logarithmic or by category."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from sam2vt.distributed.sweep.report.labels import is_number, value_label
from sam2vt.distributed.sweep.results import SweepResult, Trial, swept_values


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; `place` maps a value of the setting to it."""

    place: Callable[[Any], float]
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_categorical: bool = False

    @property
    def span(self) -> float:
        """The length of the axis."""
        return self.high - self.low

    def unit(self, value: Any) -> float:
        """Return the place of a value as a share of the axis."""
        return self.share(self.place(value))

    def share(self, place: float) -> float:
        """Return a place as a share of the axis, 0 to 1."""
        return (place - self.low) / self.span

    @classmethod
    def of(cls, values: Sequence[Any], log: bool) -> Scale:
        """Return the axis for values: numbers by size or logarithm, everything else by category."""
        if not all(map(is_number, values)):
            return cls._categories(sorted({value_label(value) for value in values}))
        if log and max(values) > 0:
            return cls._logarithmic(values)
        low, high = _widened(min(values), max(values))
        whole = all(isinstance(value, int) for value in values)
        found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
        ticks = [(float(tick), _tidy(f"{tick:.4g}")) for tick in found if low <= tick <= high]
        return cls(float, low, high, ticks)

    @classmethod
    def _categories(cls, names: Sequence[str]) -> Scale:
        places = {name: float(place) for place, name in enumerate(names)}
        ticks = [(place, name) for name, place in places.items()]
        return cls(
            lambda value: places[value_label(value)], -0.4, len(names) - 0.6, ticks, is_categorical=True
        )

    @classmethod
    def _logarithmic(cls, values: Sequence[float]) -> Scale:
        """Put values without a logarithm, such as a loss weight of zero, apart at the lower end."""
        positive = [math.log10(value) for value in values if value > 0]
        low, high = _widened(min(positive), max(positive))
        ticks = [(math.log10(tick), _power(tick)) for tick in _log_ticks(low, high)]
        others = sorted({float(value) for value in values if value <= 0})
        apart = low - 0.2 * (high - low)
        if others:
            ticks.insert(0, (apart, ", ".join(f"{value:.3g}" for value in others)))
        return cls(lambda v: math.log10(v) if v > 0 else apart, apart if others else low, high, ticks)


def scale_of(field: str, trials: Sequence[Trial], result: SweepResult) -> Scale:
    """Return the axis of a swept field over the trials that have it."""
    values = [found[field] for t in trials if field in (found := swept_values(t, result))]
    return Scale.of(values, field in result.log_fields)


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return a range that is not empty."""
    around = 0.0 if high > low else abs(high) / 2 or 0.5
    return float(low - around), float(high + around)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks: list[float] = []
    # The coarsest set of round numbers that gives three ticks: a range may span a fifth of a decade, or ten.
    for factors in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= math.log10(f * 10.0**d) <= high]
        if len(ticks) > 2:
            return ticks[:: math.ceil(len(ticks) / 5)]
    return ticks or [10**low, 10**high]


def _power(value: float) -> str:
    """Return the label of a logarithmic axis: 1e-4, not 0.0001 beside 1e-05."""
    return _tidy(f"{value:.0e}" if value < 1e-3 or value >= 1e4 else f"{value:.3g}")


def _tidy(number: str) -> str:
    return re.sub(r"e([+-])0*", lambda match: f"e{match[1].strip('+')}", number)
