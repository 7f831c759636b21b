"""docs/cluster.md says what the code says: messages, settings and files that it names are there."""

from __future__ import annotations

import ast
import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sam2vt.config import Config

REPO = Path(__file__).resolve().parents[3]
GUIDE = (REPO / "docs" / "cluster.md").read_text()
HOLE = "\0"  # stands for what a message fills in


def symptoms() -> list[str]:
    """The log lines of the guide's table, each as the guide quotes it."""
    table = GUIDE.partition("## What a failure looks like")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [text for text in quoted if not text.startswith("Authentication")]  # Ray's own words


@cache
def messages() -> str:
    """Every text of the package."""
    texts = []
    for file in (REPO / "sam2vt").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
                texts.append("".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[.\d]*[sdf]", HOLE, node.value))
    return "\n".join(texts)


def pieces(symptom: str) -> list[str]:
    """What is left of a quoted line without what it fills in: numbers as N and M, `...` and `<names>`."""
    parts = re.split(r"\b(?:[NM]|nan)\b|\.\.\.|<\w+>|\[|\]|\d+|: ", symptom)
    return [part.strip(" ,;:.") for part in parts if len(part.strip(" ,;:.")) >= 8]


def test_the_table_quotes_messages() -> None:
    assert len(symptoms()) > 15


@pytest.mark.parametrize("symptom", symptoms())
def test_what_a_failure_looks_like_is_what_the_code_says(symptom: str) -> None:
    for piece in pieces(symptom):
        assert piece in messages(), piece


def test_settings_exist() -> None:
    sections: dict[str, Any] = {each.name: getattr(Config(), each.name) for each in fields(Config)}
    named = set(re.findall(r"\b(\w+)\.([a-z_]+)\b(?=[`=\s])", GUIDE))
    settings = {(section, name) for section, name in named if is_dataclass(sections.get(section))}
    assert len(settings) > 8
    assert [f"{section}.{name}" for section, name in settings if not hasattr(sections[section], name)] == []


def test_files_exist() -> None:
    linked = [REPO / "docs" / path for path in re.findall(r"\]\(([^)#]+)\)", GUIDE)]
    named = [REPO / path for path in re.findall(r"`((?:tests|deploy|sam2vt)/[\w/.]+)`", GUIDE)]
    assert len(linked) > 4
    assert len(named) > 4
    assert [path for path in linked + named if not path.exists()] == []
