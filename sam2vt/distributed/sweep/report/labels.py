"""Names and numbers as charts and tables write them, and the pieces of HTML they are put into."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sam2vt.distributed.sweep.results import Objective


def score_label(name: str, value: float) -> str:
    """Return the value of the objective `name` in few characters."""
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.3f}" if name.startswith("val/") else f"{value:.3g}"


def short_name(name: str) -> str:
    """Return an objective's name as people say it."""
    return name.removeprefix("val/").replace("_", " ")


def axis_name(objective: Objective) -> str:
    """Return the title of an axis, with the direction that is better."""
    return f"{short_name(objective.name)}, {'higher' if objective.mode == 'max' else 'lower'} is better"


def is_number(value: Any) -> bool:
    """Return whether a setting's value has a place on a numeric axis."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def value_label(value: Any) -> str:
    """Return a setting's value in few characters, as YAML writes it where that is short."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_label, value))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def wrapped(name: str, width: int) -> str:
    """Return `name` in lines of about `width` characters, broken behind dots, commas and underscores."""
    lines = [""]
    for part in re.findall(r"[^._ ,]+[._ ,]*|[._ ,]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(cut(line.strip(), max(width, 12)) for line in lines[:4])


def cut(text: str, length: int) -> str:
    """Return `text` with an ellipsis in place of what is longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def html_text(value: Any) -> str:
    """Return `value` escaped, without characters that do not print."""
    return escape(value_label(str(value)))


def html_name(name: str) -> str:
    """Return a dotted name that a browser may break behind its dots and underscores."""
    return html_text(name).replace(".", ".<wbr>").replace("_", "_<wbr>")


def html_value(values: Mapping[str, Any], field: str) -> str:
    """Return the value of a swept field, or a note that this trial does not have it."""
    return html_text(value_label(values[field])) if field in values else '<span class="unset">not set</span>'


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: set[int], classes: Sequence[str] = ()
) -> str:
    """Return a table of cells that are HTML already; columns in `numeric` are aligned to the right."""
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
