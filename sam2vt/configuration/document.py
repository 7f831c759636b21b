"""Write what the settings say of themselves: docs/settings.md, and the comments in configs/.

python -m sam2vt.configuration.document
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from sam2vt.configuration.names import type_of
from sam2vt.configuration.reading import configs_dir
from sam2vt.settings import Setting, default_of, settings_of, types_of

# Each section, and the YAML file that holds all of its settings.
_FILES = {
    "": "config",
    "model": "model/default",
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

Every setting, by section. On the command line it follows its section: `optimizer.lr=1e-4`. Paths are taken
as they are typed, and `null` stands for none. This page and the comments in `configs/` are written by
`make settings`.
"""


def settings_page() -> str:
    """Return docs/settings.md."""
    return "\n".join([_HEAD, *(line for name in SECTIONS for line in _section(name))])


def with_comments(text: str, section: type) -> str:
    """Return a YAML file with the meaning of each setting behind it; other lines stay as they are."""
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
        path.write_text(with_comments(path.read_text(), section))


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
        return f"{_type(arguments[0])} or null"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if origin in (list, tuple):
        number = f"{len(arguments)} " if origin is tuple else ""
        return f"list of {number}{_type(arguments[0])}s"
    return _TYPES[hint]


def _value(value: Any) -> str:
    """Return a value as YAML has it: JSON, but for the quotes around texts."""
    return json.dumps(value).replace('"', "") or '""'


if __name__ == "__main__":
    write_all(Path(__file__).resolve().parents[2])
