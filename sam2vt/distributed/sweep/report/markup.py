"""Pieces of HTML: a table, a value, a name, text from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sam2vt.distributed.sweep.report.importance import value_label


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: set[int], classes: Sequence[str] = ()
) -> str:
    """Cells are HTML; those of the columns `numeric` stand to the right."""
    kinds = [' class="number"' if i in numeric else "" for i in range(len(head))]
    lines = ["".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(head, kinds))]
    for i, row in enumerate(rows):
        own = f' class="{classes[i]}"' if classes and classes[i] else ""
        first, *others = row
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(others, kinds[1:]))
        lines.append(f'<tr{own}><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines[1:])
    return (
        '<div class="scroll"><table>\n'
        f"<thead><tr>{lines[0]}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def value(values: Mapping[str, Any], field: str) -> str:
    return text(value_label(values[field])) if field in values else '<span class="unset">not set</span>'


def text(value: Any) -> str:
    """Escaped, without characters that do not print."""
    return escape(value_label(str(value)))


def breakable(name: str) -> str:
    """A dotted name that may break behind its joints."""
    return text(name).replace(".", ".<wbr>").replace("_", "_<wbr>")
