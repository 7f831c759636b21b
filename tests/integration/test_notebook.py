"""docs/walkthrough.ipynb runs from its first cell to its last, and becomes a page of the site."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / "docs" / "walkthrough.ipynb"


@pytest.mark.cluster  # most of a minute
def test_the_notebook_runs(tmp_path: Path) -> None:
    # Nothing of it is left in the home, nor in the folder for temporary files.
    places = dict.fromkeys(
        ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"), str(tmp_path)
    )
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, str(NOTEBOOK)], cwd=REPO, env={**os.environ, **places}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_committed_is_small_and_was_run() -> None:
    assert NOTEBOOK.stat().st_size < 200_000
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_it_becomes_a_page_to_which_other_pages_link(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, tmp_path)
    other = tmp_path / "other.md"
    other.write_text("[The walkthrough](walkthrough.ipynb).")
    runpy.run_path(str(REPO / "docs" / "notebooks.py"))["write_pages"](tmp_path)
    assert other.read_text() == "[The walkthrough](walkthrough.md)."
    page = (tmp_path / "walkthrough.md").read_text()
    assert page.startswith("# From a folder of videos to masks\n")
    pictures = sorted(tmp_path.glob("*.jpg"))
    assert len(pictures) == 2
    assert all(f"![output]({picture.name})" in page for picture in pictures)
