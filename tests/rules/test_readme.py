"""README is a landing page, and the tables of benchmarks show the figures of their records."""

from __future__ import annotations

import importlib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_the_tables_of_benchmarks_are_those_of_their_records(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    table = importlib.import_module("table")
    stale = [str(page) for page in table.PAGES if table.replaced(page) != page.read_text()]
    assert not stale, "run python benchmarks/table.py"
    rows = {page.parent.name: page.read_text().count("-core-") for page in table.PAGES}
    assert rows["benchmarks"] >= 15


def test_readme_and_contributing_stay_short():
    assert len((REPO / "README.md").read_text().splitlines()) <= 150
    assert len((REPO / "CONTRIBUTING.md").read_text().splitlines()) <= 60


def test_the_picture_is_small_enough_for_a_page():
    assert (REPO / "docs" / "tracking.webp").stat().st_size < 2e6
