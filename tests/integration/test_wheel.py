"""The wheel holds the package and its YAML files, and nothing else of the repository; and it works."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.integration.wheel_walk import build, walk


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_module_and_every_yaml(wheel: Path) -> None:
    clone = wheel.parents[1] / "clone"
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(clone).as_posix() for path in (clone / "sam2vt").rglob("*.py")}
    settings = {f"sam2vt/{path.relative_to(clone)}" for path in (clone / "configs").rglob("*.yaml")}
    assert len(settings) > 30
    assert held == modules | settings | {"sam2vt/py.typed", "sam2vt/core/evaluation/page.css"}


@pytest.mark.cluster
def test_the_wheel_trains_and_predicts_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has the other packages from the one that runs the tests."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    # A path in such a file is searched, but not for further such files: not that of our own editable install.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    printed = walk(environment / "bin", tmp_path / "work")
    assert str(site / "sam2vt") in printed  # as the doctor says
    assert "trained 2 steps" in printed
