"""The README shows the figures of the records."""

from __future__ import annotations

import importlib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_the_table_of_benchmarks_is_that_of_their_records(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    table = importlib.import_module("table")
    readme = (REPO / "README.md").read_text()
    assert table.replaced(readme) == readme, "run python benchmarks/table.py"
    assert readme.count("](benchmarks/") >= 7
