"""Measure the house: `python -m tests.rules.measure` prints its figures, --write puts them into the docs.

`--root` measures another checkout.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .drawing import write_drawing
from .graph import REPO, circles, folders_of, import_graph, rooms_in, source_files

SMALL_FILE_LINES = 60
# Rows of tables: one file per choice, with the table as the only importer, however short.
TABLE_ROWS = (
    "sam2vt.core.data.formats.",
    "sam2vt.core.data.masks.",
    "sam2vt.core.prediction.outputs.",
    "sam2vt.commands.",
    "sam2vt.core.training.callbacks.",
    "sam2vt.core.training.loss_terms.",
    "sam2vt.core.training.loggers",
    "sam2vt.health.",
)
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


class Goal(NamedTuple):
    """A measure, its values before and after the rooms were built, and the bound that a test keeps."""

    name: str
    before: float
    rebuilt: float
    bound: float
    is_maximum: bool = True

    def is_met(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        return value <= self.bound if self.is_maximum else value >= self.bound


# This script printed `before` at commit 984823e, and `rebuilt` at commit 1a236a5, before features were added.
GOALS = (
    Goal("circles", 3, 0, 0),
    Goal("rooms with an arrow back up", 12, 0, 0),
    Goal("files under 60 lines", 43, 2, 15),
    Goal("modules with a single importer", 61, 31, 45),
    # The rooms were built within 19,000; each feature since then raises the bound by what it needs.
    Goal("code lines", 19_816, 18_895, 29_500),
    Goal("function length, p90", 19, 19, 20),
    Goal("function length, longest", 92, 53, 80),
    Goal("comments per 100 code lines", 3.9, 5.8, 5, is_maximum=False),
    Goal("public functions with docstrings, %", 74.7, 93.9, 85, is_maximum=False),
)


class Source(NamedTuple):
    """Counts of one file."""

    lines: int
    code_lines: int  # without comments, docstrings and blanks
    comments: int
    functions: list[int]  # the length of each, in lines
    public: int
    documented: int


def measure(root: Path = REPO) -> dict[str, float]:
    """Return the value of each goal's measure."""
    graph = import_graph(root)
    sources = {name: read_source(file) for name, file in _package_files(root).items()}
    importers = Counter(each for imported in graph.values() for each in imported)
    lengths = sorted(length for source in sources.values() for length in source.functions)
    code_lines = sum(source.code_lines for source in sources.values())
    levels = (rooms_in(graph, folder) for folder in folders_of(graph))
    rooms_in_circles = [room for level in levels for circle in circles(level) for room in circle]
    values = (
        len(circles(graph)),
        len(rooms_in_circles),
        sum(sources[name].lines < SMALL_FILE_LINES for name in _counted(root)),
        sum(importers[name] == 1 for name in _counted(root)),
        code_lines,
        lengths[int(0.9 * len(lengths))],
        lengths[-1],
        round(100 * sum(source.comments for source in sources.values()) / code_lines, 1),
        round(100 * _share_documented(list(sources.values())), 1),
    )
    return {goal.name: value for goal, value in zip(GOALS, values)}


def read_source(file: Path) -> Source:
    """Count one file."""
    text = file.read_text()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    public = [node for node in functions if not node.name.startswith("_")]
    comments, code = 0, set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        comments += token.type == tokenize.COMMENT
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return Source(
        lines=len(text.splitlines()),
        code_lines=len(code - set(_docstring_lines(tree))),
        comments=comments,
        functions=[(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions],
        public=len(public),
        documented=sum(ast.get_docstring(node) is not None for node in public),
    )


def format_table(values: dict[str, float]) -> str:
    """Return the figures as a Markdown table: before, rebuilt, now, bound."""
    lines = ["| measure | 984823e | 1a236a5 | now | bound |", "|---|---:|---:|---:|---:|"]
    for goal in GOALS:
        sign = "at most" if goal.is_maximum else "at least"
        figures = (goal.before, goal.rebuilt, values[goal.name])
        cells = " | ".join(f"{figure:,g}" for figure in figures)
        lines.append(f"| {goal.name} | {cells} | {sign} {goal.bound:,g} |")
    return "\n".join(lines)


def _package_files(root: Path) -> dict[str, Path]:
    return {name: file for name, file in source_files(root).items() if name.startswith("sam2vt")}


def _counted(root: Path) -> Iterator[str]:
    """Yield the modules to which the bounds on small files and single importers apply."""
    for name, file in _package_files(root).items():
        if file.name != "__init__.py" and not name.startswith(TABLE_ROWS):
            yield name


def _share_documented(sources: list[Source]) -> float:
    return sum(each.documented for each in sources) / max(sum(each.public for each in sources), 1)


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)


def main() -> None:
    """Print the figures; --write also brings docs/architecture.md up to date."""

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=REPO, help="the checkout to measure")
    parser.add_argument("--write", action="store_true", help="write figures and drawing into the docs")
    options = parser.parse_args()
    table = format_table(measure(options.root.resolve()))
    print(table)
    if options.write:
        write_drawing(table)


if __name__ == "__main__":
    main()
