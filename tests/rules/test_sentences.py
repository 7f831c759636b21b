"""Pages and docstrings have short sentences; code, tables and headings do not count."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .graph import REPO, source_files

PAGES = [*REPO.glob("*.md"), *(REPO / "docs").glob("*.md"), *(REPO / "benchmarks").glob("[RL]*.md")]
AVERAGE = 20
LONGEST = 40
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
# A table's row, a heading, a picture.
NO_PROSE = re.compile(r"\s*(\||#|!\[)")
# Texts of their own: paragraphs and the items of lists.
BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.) )")
# A mark before a capital, a quote or code; "e.g. this" and "0.5" end no sentence.
END = re.compile(r"(?<=[.!?])[*_)\"']*\s+(?=[*_(\"'`\[]*[A-Z`0-9])")


def sentences_of(text: str) -> list[str]:
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("\n", text), flags=re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not NO_PROSE.match(line))
    text = re.sub(r"`[^`]+`", "Name", text)  # one word, whatever it quotes
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    found = [sentence for piece in BREAK.split(text) for sentence in END.split(" ".join(piece.split()))]
    return [each for each in found if words_in(each)]


def words_in(sentence: str) -> int:
    """Marks alone, such as a dash, are no words."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def docstrings(file: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            # Lines that are indented are lists and examples.
            yield re.sub(r"^ {2,}(?! ).*$", "", text, flags=re.MULTILINE)


def check(sentences: list[str]) -> None:
    lengths = [words_in(each) for each in sentences]
    assert sum(lengths) <= AVERAGE * len(lengths)
    long = [each for each, length in zip(sentences, lengths) if length > LONGEST]
    assert not long, "\n".join(long)


def test_a_sentence_is_found_where_it_ends() -> None:
    text = "# A heading\nOne `f(a. B)` of 0.5, e.g. this. [Two](a.md#b) - too?\n- three\n- four\n\n"
    text += "| a | b |\n```\nx\n```"
    assert sentences_of(text) == ["One Name of 0.5, e.g. this.", "Two - too?", "- three", "- four"]
    assert words_in("Two - too?") == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_pages(page: Path) -> None:
    check(sentences_of(page.read_text()))


def test_docstrings() -> None:
    found = {
        name: [s for text in docstrings(file) for s in sentences_of(text)]
        for name, file in source_files().items()
    }
    check([each for sentences in found.values() for each in sentences])
    averages = {name: sum(map(words_in, each)) / len(each) for name, each in found.items() if each}
    assert {name: mean for name, mean in averages.items() if mean > AVERAGE} == {}
