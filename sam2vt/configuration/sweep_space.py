"""Read a search space, the values of each setting to vary, and draw points of it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam2vt.settings import is_number

RANGES = ("uniform", "log_uniform", "integer", "log_integer")
KINDS = (*RANGES, "choice")
_OPTIONS = ("step", "or", "when")
SWITCH = "?"  # behind a field's name: whether it takes its range or the value of `or`

Values = dict[str, Any]  # by dotted name
# Turns a value of a named setting into the setting's type, or says why it cannot be.
Convert = Callable[[str, Any], tuple[Any, list[str]]]


@dataclass(frozen=True)
class Dimension:
    """The values that one setting may take."""

    name: str  # of the setting, dotted
    kind: str  # one of KINDS
    values: tuple[Any, ...]  # lowest and highest, both included; or the choices
    step: float | None = None  # from one value of a range to the next
    alternatives: tuple[Any, ...] = ()  # a value beside the range, such as 0 for "not at all"
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # varied only beside these values

    @property
    def is_log(self) -> bool:
        """Return whether values are drawn on a log scale."""
        return self.kind.startswith("log_")

    @property
    def samples(self) -> tuple[Any, ...]:
        """Return values to check before a sweep: all choices, or the ends of a range and one within."""
        within: tuple[Any, ...] = ()
        if "integer" in self.kind and self.values[0] + 1 < self.values[1]:
            within = (int(self.values[0] + (self.step or 1)),)
        return (*self.values, *within, *self.alternatives)

    def suggest(self, trial: Any) -> Any:
        """Return a value by `trial`, an Optuna trial or anything with its `suggest_` methods."""
        if self.alternatives and not trial.suggest_categorical(self.name + SWITCH, [True, False]):
            return self.alternatives[0]
        if self.kind == "choice":
            labels = [_label(value) for value in self.values]
            return self.values[labels.index(trial.suggest_categorical(self.name, labels))]
        low, high = self.values
        draw = trial.suggest_int if "integer" in self.kind else trial.suggest_float
        return draw(self.name, low, high, log=self.is_log, **({"step": self.step} if self.step else {}))

    def clipped(self, value: Any) -> Any:
        """Return the nearest value inside the range."""
        low, high = self.values
        return min(max(value, low), high)

    @property
    def num_points(self) -> int | None:
        """Return the number of values; None if they cannot be counted."""
        if self.kind == "choice":
            return len(self.values) + len(self.alternatives)
        step = self.step or (1 if self.kind == "integer" else None)
        if step is None:
            return None
        # The small number counts the end in where the steps up to it are not exact.
        return math.floor((self.values[1] - self.values[0]) / step + 1e-9) + 1 + len(self.alternatives)

    def points(self) -> list[Any] | None:
        """Return all values, or None if they cannot be counted."""
        if self.kind == "choice":
            return [*self.values, *self.alternatives]
        if self.num_points is None:
            return None
        steps = range(self.num_points - len(self.alternatives))
        own = [round(self.values[0] + number * (self.step or 1), 12) for number in steps]
        return [*own, *self.alternatives]


@dataclass(frozen=True)
class Space:
    """Dimensions, ordered so that conditions come before dimensions that depend on them."""

    dimensions: tuple[Dimension, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of the settings named in it, unswept

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the names of the settings that vary."""
        return tuple(each.name for each in self.dimensions)

    def draw(self, trial: Any) -> Values:
        """Return a point; settings whose condition does not hold are left out."""
        values: Values = {}
        for dimension in self.dimensions:
            if self._holds(dimension, values):
                values[dimension.name] = dimension.suggest(trial)
        return values

    def grid(self) -> Iterator[Values]:
        """Yield every point once; all dimensions must be countable."""
        seen = set()
        for combination in itertools.product(*(each.points() or () for each in self.dimensions)):
            values: Values = {}
            for dimension, value in zip(self.dimensions, combination):
                if self._holds(dimension, values):
                    values[dimension.name] = value
            if (key := _label(values)) not in seen:
                seen.add(key)
                yield values

    def _holds(self, dimension: Dimension, values: Values) -> bool:
        known = {**self.defaults, **values}
        return all(known.get(name) in allowed for name, allowed in dimension.when.items())


def read_space(
    mapping: Mapping[str, Any], convert: Convert, defaults: Callable[[str], Any]
) -> tuple[Space, list[str]]:
    """Return the space that `mapping` describes, nested or by dotted names, and its faults.

    `defaults` gives the unswept value of a setting.
    """
    faults: list[str] = []
    found: list[Dimension] = []
    for name, leaf in _leaves(mapping, faults):
        if name in [each.name for each in found]:
            faults.append(f"sweep.space.{name}: is given twice, nested and by its dotted name; keep one")
            continue
        if not leaf and any("group of settings" in text for text in convert(name, None)[1]):
            continue  # nothing of this group is varied
        dimension, wrong = _dimension(name, leaf, convert)
        faults += wrong
        if dimension is not None:
            found.append(dimension)
    names = {each.name for each in found}
    named = [*names, *(name for each in found for name in each.when)]
    ordered = _ordered(found, faults)
    return Space(tuple(ordered), {name: defaults(name) for name in dict.fromkeys(named)}), faults


def _leaves(mapping: Any, faults: list[str], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and (not value or value.keys() & set(KINDS)):
            yield name, value
        elif isinstance(value, Mapping) and not value.keys() & set(_OPTIONS):
            yield from _leaves(value, faults, f"{name}.")
        else:
            such = "{log_uniform: [1.0e-5, 1.0e-3]} or {choice: [1, 2]}"
            text = f"must be a mapping with one of {', '.join(KINDS)}, such as {such}"
            faults.append(f"sweep.space.{name}={value!r}: {text}")


def _dimension(name: str, leaf: Mapping[str, Any], convert: Convert) -> tuple[Dimension | None, list[str]]:
    where = f"sweep.space.{name}"
    kinds = [kind for kind in KINDS if kind in leaf]
    unknown = leaf.keys() - {*KINDS, *_OPTIONS}
    if len(kinds) != 1 or unknown:
        allowed = f"one of {', '.join(KINDS)}, and beside it {', '.join(_OPTIONS)}"
        return None, [f"{where}: has {', '.join(map(str, leaf)) or 'nothing'}; allowed are {allowed}"]
    kind, step = kinds[0], leaf.get("step")
    given, alternatives = leaf[kind], [leaf["or"]] if "or" in leaf else []
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < (2 if kind in RANGES else 1):
        return None, [f"{where}.{kind}={given!r}: must be a list of {_expected(kind)}"]
    if kind == "choice" and "step" in leaf:
        return None, [f"{where}.step={step!r}: a choice has no steps; leave it out"]
    converted, faults = _converted(where, name, [*given, *alternatives], convert)
    values, others = converted[: len(given)], converted[len(given) :]
    when, wrong = _condition(name, leaf.get("when", {}), convert)
    faults += wrong
    if not faults and kind in RANGES:
        faults += _range_faults(where, kind, values, step, takes_fractions=not convert(name, 1.5)[1])
    if kind in ("uniform", "log_uniform") and not faults:
        values = tuple(map(float, values))
    return (None if faults else Dimension(name, kind, values, step, others, when)), faults


def _condition(name: str, when: Any, convert: Convert) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    where = f"sweep.space.{name}.when"
    if not isinstance(when, Mapping):
        text = "must be a mapping of settings to values, such as {scheduler.type: step}"
        return {}, [f"{where}={when!r}: {text}"]
    found, faults = {}, list[str]()
    for other, wanted in _flat(when):
        found[other], wrong = _converted(
            where, other, wanted if isinstance(wanted, list) else [wanted], convert
        )
        faults += wrong
    return found, faults


def _converted(
    where: str, name: str, given: Sequence[Any], convert: Convert
) -> tuple[tuple[Any, ...], list[str]]:
    """Return values of the setting `name` in its type, and the faults of those that cannot be."""
    pairs = [convert(name, value) for value in given]
    return tuple(value for value, _ in pairs), [f"{where}: {text}" for _, texts in pairs for text in texts]


def _range_faults(
    where: str, kind: str, values: Sequence[Any], step: Any, takes_fractions: bool
) -> list[str]:
    text = f"{where}.{kind}={list(values)}"
    if len(values) != 2 or not all(is_number(value) for value in values) or values[0] >= values[1]:
        return [f"{text}: must be {_expected(kind)}"]
    if kind.startswith("log_") and values[0] <= 0:
        return [f"{text}: a logarithmic range begins above 0; for `not at all` beside it give `or: 0`"]
    if "integer" in kind and not all(isinstance(value, int) for value in values):
        return [f"{text}: must be two whole numbers; for others there are uniform and log_uniform"]
    if "integer" not in kind and not takes_fractions:
        return [f"{text}: the setting is a whole number; use {kind.replace('uniform', 'integer')}"]
    if step is None:
        return []
    if kind.startswith("log_"):
        return [f"{where}.step={step!r}: a logarithmic range has no steps; name its values as a choice"]
    fits = (
        is_number(step) and 0 < step <= values[1] - values[0] and (kind == "uniform" or isinstance(step, int))
    )
    if not fits:
        return [f"{where}.step={step!r}: must be above 0 and at most the width of {list(values)}"]
    number = (values[1] - values[0]) / step
    if abs(number - round(number)) > 1e-6:
        reached = f"from {values[0]} it reaches {values[0] + math.floor(number) * step:g}, not {values[1]}"
        return [f"{where}.step={step!r}: {reached}; give that as end"]
    return []


def _ordered(found: Sequence[Dimension], faults: list[str]) -> list[Dimension]:
    """Return conditions before what depends on them; a circle is a fault."""
    left, ordered = list(found), list[Dimension]()
    while left:
        open_names = {each.name for each in left}
        ready = [each for each in left if not open_names & each.when.keys()]
        if not ready:
            names = ", ".join(sorted(open_names))
            faults.append(f"sweep.space: the conditions (when) of {names} depend on each other")
            return ordered
        ordered += ready
        left = [each for each in left if each not in ready]
    return ordered


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _expected(kind: str) -> str:
    if kind == "choice":
        return "at least one value"
    return f"two {'whole ' if 'integer' in kind else ''}numbers, the lower one first"


def _label(value: Any) -> Any:
    """Optuna's categories are numbers, texts, booleans and None."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value, sort_keys=True, default=list)
