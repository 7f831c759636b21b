"""Each example of docs/extending.md is applied to a copy of the package, counted and used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .graph import REPO

EXAMPLES = Path(__file__).parent / "extending"
NAMES = ("layout", "kind", "loss_term", "verb", "adapter", "logger")
MOST_FILES = 6


def touched(name: str) -> list[str]:
    return re.findall(r"^\+\+\+ b/(\S+)", (EXAMPLES / f"{name}.patch").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_an_addition_touches_few_files_and_works(name: str, tmp_path: Path) -> None:
    shutil.copytree(REPO / "sam2vt", tmp_path / "sam2vt", ignore=shutil.ignore_patterns("__pycache__"))
    # Outside of a repository, else git takes the paths to be those of the repository.
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PYTHONPATH": str(tmp_path)}
    patch = ["git", "apply", "--unidiff-zero", str(EXAMPLES / f"{name}.patch")]
    applied = subprocess.run(patch, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert applied.returncode == 0, applied.stderr
    assert len(touched(name)) <= MOST_FILES
    use = [sys.executable, str(EXAMPLES / f"use_{name}.py"), str(tmp_path)]
    used = subprocess.run(use, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert used.returncode == 0, used.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_document_counts_and_names_the_files(name: str) -> None:
    document = (REPO / "docs" / "extending.md").read_text()
    section = document.split(f"tests/rules/extending/{name}.patch")[0].rpartition("\n## ")[2]
    assert section.partition("\n")[0].endswith(f": {len(touched(name))} files")
    missing = [file for file in touched(name) if not _is_named(file.removeprefix("sam2vt/"), section)]
    assert missing == []


def _is_named(file: str, section: str) -> bool:
    """A new file is named by its folder, with the name in angle brackets."""
    return (
        f"`{file}`" in section
        or re.search(rf"`{re.escape(os.path.dirname(file))}/<\w+>\.py`", section) is not None
    )
