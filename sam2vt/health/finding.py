"""Findings about this machine, and how they are shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

OK = "ok"
NOTE = "note"  # something is missing or small that a training can do without
BROKEN = "broken"  # something that every training needs
_MARKS = {OK: " ", NOTE: "!", BROKEN: "x"}
_WIDTH, _NAMES = 80, 16


class Finding(NamedTuple):
    """A thing that was looked at, what was found, and how to fix it if that is not right."""

    name: str
    value: str
    state: str = OK
    fix: str = ""


def as_text(groups: Mapping[str, Sequence[Finding]]) -> str:
    """Return the findings by group as text of at most 80 columns; its end counts those that are wrong."""
    lines: list[str] = []
    for group, findings in groups.items():
        lines += [group, *(line for each in findings for line in _lines(each)), ""]
    found = [each for findings in groups.values() for each in findings]
    ends = []
    for state, what in ((BROKEN, "broken (x)"), (NOTE, "to know (!)")):
        names = [each.name for each in found if each.state == state]
        ends += [f"{len(names)} {what}: {', '.join(names)}"] if names else []
    lines += textwrap.wrap("; ".join(ends) or "nothing is missing", _WIDTH)
    return "\n".join(lines)


def _lines(finding: Finding) -> Iterator[str]:
    head = f"{_MARKS[finding.state]} {finding.name:<{_NAMES - 1}} "
    yield from _wrapped(head, finding.value)
    if finding.fix:
        yield from _wrapped(" " * len(head), f"fix: {finding.fix}")


def _wrapped(head: str, text: str) -> list[str]:
    """Return text beside a head; a word that is too long for a line, such as a path, loses its middle."""
    room = _WIDTH - len(head)
    words = (_shortened(word, room) for word in text.split())
    wrapped = textwrap.wrap(" ".join(words), room, break_long_words=False, break_on_hyphens=False)
    heads = [head, *[" " * len(head)] * (len(wrapped) - 1)]
    return [f"{each}{line}" for each, line in zip(heads, wrapped or [""])]


def _shortened(word: str, room: int) -> str:
    if len(word) <= room:
        return word
    front = (room - 2) // 2
    return f"{word[:front]}..{word[len(word) - (room - 2 - front) :]}"
