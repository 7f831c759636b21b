"""The README's file tree is the tree: a line a file, from the first sentence of its docstring."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def summary(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    assert text, f"{file.relative_to(REPO)} has no docstring"
    return text.split("\n\n")[0].replace("\n", " ").removesuffix(".")


def lines(folder: Path, depth: int) -> Iterator[str]:
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield line(depth, file.name, summary(file))
    for inner in sorted(
        p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and any(p.glob("*.py"))
    ):
        yield line(depth, f"{inner.name}/", summary(inner / "__init__.py"))
        yield from lines(inner, depth + 1)


def line(depth: int, name: str, text: str) -> str:
    return f"{'  ' * depth + name:<34}{text}"


def test_the_readme_shows_every_file():
    readme = (REPO / "README.md").read_text()
    shown = readme.split("<!-- tree -->\n```\n")[1].split("\n```\n")[0]
    expected = "\n".join(["sam2vt/", *lines(REPO / "sam2vt", 1)])
    assert shown == expected, f"put this tree into README.md:\n{expected}"


def test_the_table_of_benchmarks_is_that_of_their_records(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    table = importlib.import_module("table")
    readme = (REPO / "README.md").read_text()
    assert table.replaced(readme) == readme, "run python benchmarks/table.py"
    assert readme.count("](benchmarks/") >= 7
