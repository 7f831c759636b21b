"""Describe settings where they are declared: meaning, unit, allowed values, and whether it is a path."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, NamedTuple, TypeVar, get_type_hints

from sam2vt.errors import ConfigError

Section = TypeVar("Section")

_KEY = "setting"  # of a dataclass field's metadata
_GIVEN = "_given"  # names of the settings that a section's constructor was given
_FOLLOWED = "_followed"  # values that were taken over from elsewhere, by the settings' names
_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^/@\s]+(?=@)|([?&]password=)[^&\s]+")
_HAS_PASSWORD = (
    "contains a password, which config.yaml and checkpoints would store; leave it out, and set environment "
    "variables: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3, MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD for an MLflow server, MLFLOW_TRACKING_URI for a database"
)


class Rule(NamedTuple):
    """The allowed values of a setting, and their unit; `text` completes "must be"."""

    fits: Callable[[Any], bool]
    text: str
    choices: tuple[str, ...] = ()
    unit: str = ""


ANYTHING = Rule(lambda value: True, "")


class Setting(NamedTuple):
    """The description of a setting, beyond name, type and default.

    `path` is its kind of path: "input" (local or a URI, must exist), "local input", "output", "network" (may
    also be a name inside a package); empty for other settings.
    """

    meaning: str
    allowed: Rule
    path: str


def setting(default: Any, meaning: str, allowed: Rule = ANYTHING, path: str = "") -> Any:
    """Return a dataclass field with its description. A mutable default is copied per instance."""
    metadata = {_KEY: Setting(meaning, allowed, path)}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


# The bounds below are finite: YAML writes infinity and "not a number" as numbers, too.
def at_least(low: float, unit: str = "") -> Rule:
    """Return the rule for finite numbers of at least `low`."""
    return Rule(lambda value: low <= value < math.inf, f"at least {low}", unit=unit)


def above(low: float, unit: str = "") -> Rule:
    """Return the rule for finite numbers above `low`."""
    return Rule(lambda value: low < value < math.inf, f"above {low}", unit=unit)


def within(low: float, high: float, unit: str = "") -> Rule:
    """Return the rule for numbers from `low` to `high`, both included."""
    return Rule(lambda value: low <= value <= high, f"between {low} and {high}", unit=unit)


def range_within(low: float, high: float, unit: str = "") -> Rule:
    """Return the rule for pairs [least, most] between `low` and `high`."""
    fits = lambda pair: low <= pair[0] <= pair[1] <= high  # noqa: E731
    return Rule(fits, f"[least, most], both between {low} and {high}", unit=unit)


def one_of(*allowed: str) -> Rule:
    """Return the rule for one of the given texts."""
    return Rule(lambda value: value in allowed, f"one of {', '.join(allowed)}", allowed)


def some_of(*allowed: str) -> Rule:
    """Return the rule for a list of the given texts, which may be empty."""
    return Rule(lambda value: set(value) <= set(allowed), f"a list of {', '.join(allowed)}", allowed)


def _is_device(value: str) -> bool:
    kind, _, index = value.partition(":")
    return value in ("auto", "cpu", "mps") or (kind == "cuda" and (value == kind or index.isdecimal()))


def _are_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(index) is int and index >= 0 for index in value)
    return value == "auto" or (type(value) is int and (value == -1 or value >= 1))


def _is_amount(value: float) -> bool:
    # Lightning's reading: an int counts batches, a float is a share.
    return value >= 1 if isinstance(value, int) else 0 < value <= 1


def _is_number_of_workers(value: Any) -> bool:
    if not isinstance(value, dict):
        return type(value) is int and value >= 1
    if value.keys() != {"min", "max"} or any(type(number) is not int for number in value.values()):
        return False
    return 1 <= value["min"] <= value["max"]


PROMPT_KINDS = ("point", "box", "mask")
PROMPT_ALIASES = {"bbox": "box"}  # as configurations of SAM 2 name it
PROMPT_NAMES = (*PROMPT_KINDS, *PROMPT_ALIASES)


def _are_prompt_types(value: list[str]) -> bool:
    kinds = {PROMPT_ALIASES.get(kind, kind) for kind in value}
    return kinds <= set(PROMPT_KINDS) and (len(value) == 1 or len(kinds) > 1)


DEVICE = Rule(_is_device, "auto, cpu, cuda, cuda:<index> or mps")
DEVICES = Rule(_are_devices, "auto, -1, a number of devices, or a list of device indices")
AMOUNT = Rule(_is_amount, "a share above 0.0 and up to 1.0, or an integer that counts batches")
NUMBER_OF_WORKERS = Rule(
    _is_number_of_workers,
    "a number of at least 1, or {min: 2, max: 8} with a min that is at most max",
    unit="workers",
)
PROMPT_TYPES = Rule(
    _are_prompt_types,
    f"a list of {', '.join(PROMPT_NAMES)}; repeats are weights, so a list of one type has it once",
    PROMPT_NAMES,
)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def settings_of(section: Any) -> dict[str, Setting]:
    """Return the described settings of a dataclass or of an instance, by name; sections are left out."""
    return {each.name: each.metadata[_KEY] for each in fields(section) if _KEY in each.metadata}


def choices(section: type, name: str) -> tuple[str, ...]:
    """Return the texts that a setting may be, or that its list may contain."""
    return settings_of(section)[name].allowed.choices


def value_at(section: Any, name: str) -> Any:
    """Return the value of a setting or section by its dotted name; None if there is none."""
    return functools.reduce(lambda value, part: getattr(value, part, None), name.split("."), section)


def show(value: Any) -> str:
    """Return a value as YAML writes it, for messages; passwords in addresses are `***`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return without_passwords(repr(list(value) if isinstance(value, tuple) else value))


def without_passwords(text: str) -> str:
    """Return a text with `***` for each password in an address, such as postgresql://user:***@host."""
    return _PASSWORD.sub(r"\1\2***", text)


def default_of(section: Any, name: str) -> Any:
    """Return the default of a field."""
    (found,) = (each for each in fields(section) if each.name == name)
    return found.default_factory() if found.default_factory is not MISSING else found.default


def walk(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted name, the instance or dataclass that owns it, own name) of every setting below."""
    for each in fields(section):
        inner = types_of(section)[each.name]
        if not is_dataclass(inner):
            yield f"{prefix}{each.name}", section, each.name
        else:
            below = inner if isinstance(section, type) else getattr(section, each.name)
            yield from walk(below, f"{prefix}{each.name}.")


def path_settings(section: Any) -> set[str]:
    """Return the dotted names of all settings below a dataclass that are paths."""
    return {name for name, owner, own_name in walk(section) if settings_of(owner)[own_name].path}


@functools.cache
def _hints(section: type) -> dict[str, Any]:
    return get_type_hints(section)  # evaluates every annotation, which takes a while


def types_of(section: Any) -> dict[str, Any]:
    """Return the evaluated annotation of every field, by name."""
    return _hints(section if isinstance(section, type) else type(section))


def wrong_values(section: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted name, value, what it must be) of each value that its setting does not allow.

    Types must be right already. null is allowed if the type allows it; with `Any` the rule decides.
    """
    for dotted, owner, name in walk(section):
        rule, value = settings_of(owner)[name].allowed, getattr(owner, name)
        is_judged = value is not None or types_of(owner)[name] is Any
        if is_judged and not rule.fits(value):
            yield dotted, value, f"must be {rule.text}"
        elif _PASSWORD.search(str(value)):
            yield dotted, value, _HAS_PASSWORD


def require(section: type, name: str, value: Any, shown: str = "") -> None:
    """Raise ConfigError if the setting `name` does not allow a value; null is not checked."""
    rule = settings_of(section)[name].allowed
    if value is not None and not rule.fits(value):
        raise ConfigError(f"{shown or name}={show(value)}: must be {rule.text}")


def remember_given(section: type[Section]) -> type[Section]:
    """Make a dataclass remember which settings its constructor was given, for `follow`.

    A value that equals the default does not show whether it was given.
    """
    construct, names = section.__init__, [each.name for each in fields(section)]  # type: ignore[arg-type,misc]

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, _GIVEN, frozenset([*names[: len(args)], *kwargs]))
        construct(self, *args, **kwargs)

    section.__init__ = __init__  # type: ignore[method-assign,misc]
    return section


def follow(section: Section, name: str, value: Any) -> Section:
    """Return `section` with the setting `name` at `value`, unless it was given or changed.

    If anything changes, the result is a copy: one section may belong to several configurations.
    """
    if getattr(section, name) == value or is_given(section, name):
        return section
    followed = copy.copy(section)
    setattr(followed, name, value)
    settle(followed, name)
    return followed


def settle(section: Any, name: str) -> None:
    """Mark the current value of a setting as inherited, so that it follows another setting again."""
    object.__setattr__(section, _FOLLOWED, {**getattr(section, _FOLLOWED, {}), name: getattr(section, name)})


def is_given(section: Any, name: str) -> bool:
    """Return whether the value of a setting was given, even if it equals the default."""
    current, followed = getattr(section, name), getattr(section, _FOLLOWED, {})
    if name in followed:
        return bool(current != followed[name])
    return name in getattr(section, _GIVEN, ()) or current != default_of(section, name)


def make_pair(section: Any, name: str, meaning: str) -> None:
    """Turn a setting of two values into a tuple. Raises ConfigError for any other number.

    OmegaConf and YAML return a tuple as a list of any length.
    """
    values = getattr(section, name)
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise ConfigError(f"{name}={show(values)}: must be {meaning}")
    setattr(section, name, tuple(values))
