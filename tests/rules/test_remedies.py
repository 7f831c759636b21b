"""A remedy fits who reads it: a setting that verbs take as an option is named in both forms."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sam2vt.cli import parser_of

DATA = Path(__file__).resolve().parents[2] / "sam2vt" / "core" / "data"


def reading_options() -> set[str]:
    """The settings of a dataset that verbs take as options."""
    common = [{action.dest for action in parser_of(verb)._actions} for verb in ("pack", "index")]
    return set.intersection(*common) - {"help", "data", "out"}


def messages(tree: ast.AST) -> Iterator[str]:
    """The text of every string that is raised or told, without what is put into it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for each in node.args:
                parts = each.values if isinstance(each, ast.JoinedStr) else [each]
                texts = [part.value for part in parts if isinstance(part, ast.Constant)]
                yield "".join(map(str, texts))


def test_settings_are_named_with_their_options():
    options = reading_options()
    assert {"identity", "image_root", "colours"} <= options
    named = set()
    for file in DATA.rglob("*.py"):
        for message in messages(ast.parse(file.read_text())):
            for setting in options & set(re.findall(r"dataset\.(\w+)", message)):
                named.add(setting)
                option = f"(--{setting.replace('_', '-')}"
                assert option in message, f"{file.name} names dataset.{setting} without {option}): {message}"
    assert named >= {"identity", "image_root", "allow_absolute_paths"}
