"""Format names and numbers for charts and tables: labels, axes of values, pieces of HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.ticker import MaxNLocator

from sam2vt.distributed.sweep.results import Objective
from sam2vt.settings import is_number, show


def score_label(name: str, value: float) -> str:
    """Return the value of the objective `name` in few characters."""
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.3f}" if name.startswith("val/") else f"{value:.3g}"


def short_name(name: str) -> str:
    """Return an objective's name for readers."""
    return name.removeprefix("val/").replace("_", " ")


def axis_name(objective: Objective) -> str:
    """Return the title of an axis, with the direction that is better."""
    return f"{short_name(objective.name)}, {'higher' if objective.mode == 'max' else 'lower'} is better"


def value_label(value: Any) -> str:
    """Return a setting's value in few characters, in YAML's form if that is short."""
    if isinstance(value, bool) or value is None:
        return show(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_label, value))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def wrapped(name: str, width: int) -> str:
    """Return `name` in lines of about `width` characters, broken behind dots, commas and underscores."""
    lines = [""]
    for part in re.findall(r"[^._ ,]+[._ ,]*|[._ ,]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(cut(line.strip(), max(width, 12)) for line in lines[:4])


def cut(text: str, length: int) -> str:
    """Return `text` cut with an ellipsis to at most `length`."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


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


def html_text(value: Any) -> str:
    """Return `value` escaped, without characters that do not print."""
    return escape(value_label(str(value)))


def html_name(name: str) -> str:
    """Return a dotted name that a browser may break behind its dots and underscores."""
    return html_text(name).replace(".", ".<wbr>").replace("_", "_<wbr>")


def html_value(values: Mapping[str, Any], field: str) -> str:
    """Return the value of a swept field, or a note that this trial does not have it."""
    return html_text(value_label(values[field])) if field in values else '<span class="unset">not set</span>'


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: set[int], classes: Sequence[str] = ()
) -> str:
    """Return a table of cells that are HTML already; columns in `numeric` are aligned to the right."""
    kinds = [' class="number"' if i in numeric else "" for i in range(len(head))]
    lines = ["".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(head, kinds))]
    for i, row in enumerate(rows):
        own = f' class="{classes[i]}"' if classes and classes[i] else ""
        first, *others = row
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(others, kinds[1:]))
        lines.append(f'<tr{own}><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines[1:])
    table = f"<thead><tr>{lines[0]}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
    return f'<div class="scroll"><table>\n{table}</table></div>'
