"""README's table of benchmarks, from the records beside this file.

python benchmarks/table.py        # writes it into README.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from machine import IN_SHORT

FOLDER = Path(__file__).resolve().parent
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->"


def table() -> str:
    return "\n".join(["| benchmark | in short | machine and day |", "|---|---|---|", *rows(), ""])


def rows() -> Iterator[str]:
    for record in sorted(FOLDER.glob("*_*.md")):
        lines = record.read_text().splitlines()
        title = lines[0].removeprefix("# ").rpartition(",")[0]
        (short,) = (line.removeprefix(IN_SHORT) for line in lines if line.startswith(IN_SHORT))
        (where,) = (line for line in lines if line.startswith("Machine: "))
        hardware = where.removeprefix("Machine: ").split(";")[0].split(", no GPU")[0]
        (day,) = re.findall(r"\d{4}-\d{2}-\d{2}", where)
        yield f"| [{title}](benchmarks/{record.name}) | {short.rstrip('.')} | {hardware}, {day} |"


def replaced(readme: str) -> str:
    """README with its table made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(replaced(README.read_text()))
