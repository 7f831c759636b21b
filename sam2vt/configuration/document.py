"""Write docs/settings.md and the comments in configs/ from the declarations of the settings.

python -m sam2vt.configuration.document
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from sam2vt.configuration.names import type_of
from sam2vt.configuration.reading import configs_dir
from sam2vt.settings import Setting, default_of, settings_of, show, types_of

# Each section, and the YAML file that holds all of its settings.
_FILES = {
    "": "config",
    "model": "model/default",
    "model.lora": "model/lora/none",
    "model.ema": "model/ema/none",
    "dataset": "dataset/auto",
    "valdataset": "valdataset/default",
    "loss": "loss/default",
    "optimizer": "optimizer/adamw",
    "scheduler": "scheduler/cosine",
    "trainer": "trainer/default",
    "ray": "ray/local",
    "dataset.augment": "dataset/augment/none",
    "sweep": "sweep/default",
}
SECTIONS = {name: (type_of(name), f"{file}.yaml") for name, file in _FILES.items()}
_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text", Any: "any"}
_HEAD = """# Settings

All settings, by section. On the command line, a name begins with its section: `optimizer.lr=1e-4`. Texts
and paths are taken as they are typed. In lists and mappings, quote texts with special characters:
`dataset.datasets=[{data_path: 'a, b'}]`. `null` means none. `make settings` writes this page and the
comments in `configs/`.
"""


def settings_page() -> str:
    """Return docs/settings.md."""
    return "\n".join([_HEAD, *(line for name in SECTIONS for line in _section(name))])


def with_comments(text: str, section: type) -> str:
    """Return a YAML file with the meaning of each setting as a comment; other lines do not change."""
    meanings = {name: _comment(each) for name, each in settings_of(section).items()}
    # A comment begins at " #"; no value of ours contains one.
    lines = [(line, re.fullmatch(r"((\w+):.*?)(?:\s+#.*)?", line)) for line in text.splitlines()]
    width = max((len(found[1]) for _, found in lines if found and found[2] in meanings), default=0)
    width = min(width, 32)
    commented = (
        f"{found[1]:<{width}}  # {meanings[found[2]]}" if found and found[2] in meanings else line
        for line, found in lines
    )
    return "\n".join(commented).rstrip("\n") + "\n"


def with_missing(text: str, section: type) -> str:
    """Return a YAML file with a line for each missing setting, after the setting declared before it."""
    lines, place = text.splitlines(), len(text.splitlines())
    for name in settings_of(section):
        found = [number for number, line in enumerate(lines) if line.startswith(f"{name}:")]
        if not found:
            lines.insert(place, f"{name}: {_value(default_of(section, name))}")
        place = (found or [place])[0] + 1
    return "\n".join(lines) + "\n"


def _comment(setting: Setting) -> str:
    """Return a setting's meaning, with its choices and unit where that does not name them."""
    meaning = setting.meaning.rstrip(".")
    choices, unit = setting.allowed.choices, setting.allowed.unit
    if not all(each in meaning for each in choices):
        meaning += f" ({', '.join(choices)})"
    named = not unit or unit.rstrip("s").lower() in meaning.lower()
    return meaning if named else f"{meaning} [{unit}]"


def write_all(root: Path) -> None:
    """Write the page below `root`, and the comments of the YAML files."""
    (root / "docs" / "settings.md").write_text(settings_page())
    for section, file in SECTIONS.values():
        path = configs_dir() / file
        path.write_text(with_comments(with_missing(path.read_text(), section), section))


def _section(name: str) -> Iterator[str]:
    section = SECTIONS[name][0]
    doc = (section.__doc__ or "").split("\n\n")[0].strip()
    yield f"## {name or 'The root'}\n\n{doc}\n"
    yield "| name | type | unit | default | allowed | meaning |\n|---|---|---|---|---|---|"
    for own_name, setting in settings_of(section).items():
        kind = _type(types_of(section)[own_name])
        kind = kind.replace("text", "path") if setting.path else kind
        default = f"`{_value(default_of(section, own_name))}`"
        cells = (f"`{own_name}`", kind, setting.allowed.unit, default, setting.allowed.text, setting.meaning)
        yield "| " + " | ".join(cells).replace("<", "\\<") + " |"
    yield ""


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:
        return " or ".join("null" if each is type(None) else _type(each) for each in arguments)
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if origin in (list, tuple):
        number = f"{len(arguments)} " if origin is tuple else ""
        return f"list of {number}{_type(arguments[0])}s"
    return _TYPES[hint]


def _value(value: Any) -> str:
    """Return a value without the quotes that YAML does not need."""
    return show(value).replace("'", "") or '""'


if __name__ == "__main__":
    write_all(Path(__file__).resolve().parents[2])
