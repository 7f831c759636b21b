"""Read nested mappings into dataclasses, and collect unknown keys and wrong types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Union, get_args, get_origin

from sam2vt.configuration.names import unknown_key
from sam2vt.errors import ConfigError
from sam2vt.settings import Section, show, types_of, wrong_values

_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string", Any: "any value"}


class Fault(NamedTuple):
    """A problem, and the dotted names of the settings it concerns."""

    fields: tuple[str, ...]
    text: str


def plain(mapping: Any) -> Any:
    """Return an OmegaConf container as resolved dicts and lists, anything else as it is."""
    if not type(mapping).__module__.startswith("omegaconf"):
        return mapping
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(mapping, resolve=True)
    except OmegaConfBaseException as error:
        name, text = getattr(error, "full_key", ""), str(error).partition("\n")[0]
        raise ConfigError.listing("the configuration", [f"{name}: cannot be resolved: {text}"]) from error


def untuple(value: Any) -> Any:
    """Return `value` with lists for tuples and texts for paths, at any depth."""
    if isinstance(value, Mapping):
        return {key: untuple(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [untuple(inner) for inner in value]
    return str(value) if isinstance(value, PurePath) else value


def read(kind: type, mapping: Any, where: str = "") -> tuple[Any, list[Fault]]:
    """Return an instance of the dataclass `kind` and the faults; a faulty field keeps its default."""
    if not isinstance(mapping, Mapping):
        return kind(), [wrong_type(where or "config", mapping, "a mapping of settings")]
    hints = types_of(kind)
    faults = unknown_keys(mapping, list(hints), where)
    values = {}
    for name in hints:
        if name in mapping:
            value, found = convert(mapping[name], hints[name], f"{where}{name}")
            faults += found
            if not found or is_dataclass(hints[name]):
                values[name] = value
    return kind(**values), faults


def checked(kind: type[Section], given: Mapping[str, Any], where: str) -> Section:
    """Return the dataclass `kind` with the settings from a program, checked by their own rules.

    Raises ConfigError for unknown names, wrong types and values that are not allowed; `where` precedes names.
    """
    section, faults = read(kind, given, where)
    wrong = [f"{where}{name}={show(value)}: {text}" for name, value, text in wrong_values(section)]
    if faults or wrong:
        raise ConfigError("\n".join([*(fault.text for fault in faults), *wrong]))
    return section


def unknown_keys(mapping: Mapping[str, Any], known: Sequence[str], where: str) -> list[Fault]:
    """Return a fault for each key of a mapping that is not a known one."""
    names = [f"{where}{key}" for key in mapping if key not in known]
    return [Fault((name,), unknown_key(name, known)) for name in names]


def convert(value: Any, hint: Any, where: str) -> tuple[Any, list[Fault]]:
    """Return `value` as the type `hint`, and the faults; `where` is the name of the setting."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(value, str) and value == "???":
        return None, [Fault((where,), f"{where}: has to be given")]
    if is_dataclass(hint):
        return read(hint, value, f"{where}.")  # type: ignore[arg-type]
    if origin is Union:
        # An integer is a number and stays one, so that float stands for both.
        inner = float if float in arguments else next(a for a in arguments if a is not type(None))
        return (None, []) if value is None else convert(value, inner, where)
    if isinstance(value, str) and (origin in (list, tuple, dict) or hint is Any):
        value = _container(value)
    if origin in (list, tuple):
        return _convert_sequence(value, origin, arguments, where)
    if origin is dict:
        return _convert_dict(value, arguments[1], where)
    if hint is Any or _is_a(value, hint):
        return value, []
    return None, [wrong_type(where, value, _NAMES[hint])]


# A mapping with a key that has no value: it is what follows a comma in a text without quotes.
_CUT_TEXT = re.compile(r"\{[^{}\[\]]*,[^:{}\[\],'\"]+[,}]")


def _container(text: str) -> Any:
    """Return the list or mapping of a text in YAML, else the text: overrides bring such texts along."""
    if text[:1] not in ("[", "{") or _CUT_TEXT.search(text):
        return text
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_container(OmegaConf.create(text))
    except Exception:  # of PyYAML and of OmegaConf
        return text


def _convert_sequence(value: Any, origin: Any, arguments: Any, where: str) -> tuple[Any, list[Fault]]:
    fixed = len(arguments) if origin is tuple else None
    expected = f"a list of {fixed or ''} {_NAMES[arguments[0]].split()[-1]}s".replace("  ", " ")
    fits = isinstance(value, (list, tuple)) and len(value) == (fixed or len(value))
    if not fits or not all(_is_a(item, arguments[0]) for item in value):
        return None, [wrong_type(where, value, expected)]
    return origin(value), []


def _convert_dict(value: Any, kind: type, where: str) -> tuple[Any, list[Fault]]:
    if value is None:  # what YAML has by default, since Hydra adds no keys to an empty mapping
        return {}, []
    if not isinstance(value, Mapping) or any(convert(item, kind, where)[1] for item in value.values()):
        of = "lists of " if get_origin(kind) is list else ""
        each = _NAMES[get_args(kind)[0] if of else kind].split()[-1]
        return None, [wrong_type(where, value, f"a mapping of names to {of}{each}s")]
    return {str(key): convert(item, kind, where)[0] for key, item in value.items()}, []


def _is_a(value: Any, kind: type) -> bool:
    """Whether a setting of type `kind` may be `value`; an integer is a number, true and false are not."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


def wrong_type(where: str, value: Any, expected: str) -> Fault:
    """Return the fault of a value of the wrong type, with the likely mistake."""
    hint = ""
    if isinstance(value, str) and expected == "a number" and re.fullmatch(r"[-+.\de]+", value):
        # YAML 1.1 reads 1e-4 as a text, for want of a point.
        hint = "; in YAML write it without quotes and with a point, such as 1.0e-4"
    elif isinstance(value, str) and value[:1] in ("[", "{"):
        hint = "; a text in it that has , : [ ] { } # or quotes is put in quotes"
    return Fault((where.rstrip("."),), f"{where.rstrip('.')}={show(value)}: must be {expected}{hint}")


def configs_dir() -> Path:
    """Return the folder of the YAML files: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"the configs folder is neither in {package} nor beside it; reinstall sam2vt")
