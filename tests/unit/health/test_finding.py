"""The report as text."""

from __future__ import annotations

from sam2vt.health.finding import BROKEN, NOTE, Finding, as_text

LONG = "/".join(["", *(f"folder{number}" for number in range(20))])


def test_the_report_marks_what_is_wrong_and_fits_80_columns() -> None:
    groups = {
        "packages": [
            Finding("torch", "2.6"),
            Finding("sam2", "missing", BROKEN, "pip install 'sam2vt[sam2]'"),
        ],
        "places": [Finding("here", f"{LONG}, 3 GiB free"), Finding("shm", "small", NOTE, "a " * 60)],
    }
    text = as_text(groups)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:4] == [
        "packages",
        "  torch           2.6",
        "x sam2            missing",
        "                  fix: pip install 'sam2vt[sam2]'",
    ]
    assert "! shm             small" in lines
    assert any(line.startswith("  here            /folder0/") and ".." in line for line in lines)
    assert lines[-1] == "1 broken (x): sam2; 1 to know (!): shm"


def test_nothing_is_wrong() -> None:
    assert as_text({"packages": [Finding("torch", "2.6")]}).splitlines()[-1] == "nothing is missing"


def test_a_long_name_is_apart_from_what_is_said_of_it() -> None:
    text = as_text({"optional": [Finding("optional packages", "missing", NOTE)]})
    assert "! optional packages missing" in text
