"""Write the tables of benchmarks in README.md and benchmarks/README.md from the records beside this file.

python benchmarks/table.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from machine import IN_SHORT

FOLDER = Path(__file__).resolve().parent
REPO = FOLDER.parent
# README shows what holds on any processor: counts and ratios, no times that rest on one machine's libraries.
SHOWN = ("step", "loss", "learning", "decode", "scale")
PAGES = {REPO / "README.md": SHOWN, FOLDER / "README.md": None}  # None: every record
BEGIN, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->"


def table(page: Path, themes: Sequence[str] | None) -> str:
    head = ["| benchmark | result | command | machine, date |", "|---|---|---|---|"]
    return "\n".join([*head, *rows(page, themes), ""])


def rows(page: Path, themes: Sequence[str] | None) -> Iterator[str]:
    """One row per record, of `themes` in their order or of all by name."""
    found = sorted(FOLDER.glob("*_*.md"))
    if themes is not None:
        found = [record for theme in themes for record in found if theme_of(record) == theme]
    for record in found:
        lines = record.read_text().splitlines()
        title = lines[0].removeprefix("# ").rpartition(",")[0]
        (short,) = (line.removeprefix(IN_SHORT) for line in lines if line.startswith(IN_SHORT))
        (where,) = (line for line in lines if line.startswith("Machine: "))
        hardware = where.removeprefix("Machine: ").split(";")[0].split(", no GPU")[0]
        (day,) = re.findall(r"\d{4}-\d{2}-\d{2}", where)
        link = record.relative_to(page.parent)
        command = f"benchmarks/{theme_of(record)}.py"
        yield f"| [{title}]({link}) | {short.rstrip('.')} | `{command}` | {hardware}, {day} |"


def theme_of(record: Path) -> str:
    """The benchmark that wrote a record: `<theme>_<cores>-core-<processor>_<month>.md`."""
    return re.split(r"_\d+-core", record.stem)[0]


def replaced(page: Path) -> str:
    """Return the text of a page of PAGES with its table rewritten."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(page, PAGES[page])}{END}{after}"


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(replaced(each))
