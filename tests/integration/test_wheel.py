"""The wheel holds the package and its YAML files, and nothing else of the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_every_module_and_every_yaml(tmp_path: Path) -> None:
    # Built from a clone: a build leaves folders behind.
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(REPO), str(clone)], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path / "out"), str(clone)], check=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(clone).as_posix() for path in (clone / "sam2vt").rglob("*.py")}
    settings = {f"sam2vt/{path.relative_to(clone)}" for path in (clone / "configs").rglob("*.yaml")}
    assert len(settings) > 30
    assert held == modules | settings | {"sam2vt/py.typed", "sam2vt/core/evaluation/page.css"}
