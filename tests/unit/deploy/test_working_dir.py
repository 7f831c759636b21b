"""What `ray job submit --working-dir .` sends, packed by Ray itself."""

from __future__ import annotations

import logging
from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE, create_package

REPO = Path(__file__).resolve().parents[3]


def pack(folder: Path, target: Path) -> list[str]:
    """The names of the files in the package of `folder`."""
    create_package(str(folder), target, include_gitignore=True, logger=logging.getLogger("packaging"))
    with ZipFile(target) as package:
        return [name for name in package.namelist() if not name.endswith("/")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    path = tmp_path_factory.mktemp("package") / "package.zip"
    return path, pack(REPO, path)


def test_is_far_below_rays_limit(package: tuple[Path, list[str]]) -> None:
    size = package[0].stat().st_size
    print(f"the package of the working folder: {size / 2**20:.2f} MiB of {GCS_STORAGE_MAX_SIZE / 2**20:.0f}")
    assert size < GCS_STORAGE_MAX_SIZE / 100


def test_holds_what_a_job_runs_and_no_more(package: tuple[Path, list[str]]) -> None:
    names = package[1]
    assert {"ray_jobs/train.py", "sam2vt/config.py", "configs/config.yaml", "pyproject.toml"} <= set(names)
    assert "sam2vt/configs/config.yaml" in names  # a link in the repository
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders <= {"ray_jobs", "sam2vt", "configs", "benchmarks", ".ci", "sam2vt.egg-info"}


def test_data_and_runs_beside_the_code_stay(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for name in ("runs/a/last.ckpt", "videos/a.mp4", "videos/a.mov", "videos/0.jpg", "w.safetensors", "a.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name in (".gitignore", ".rayignore"):
        (folder / name).write_bytes((REPO / name).read_bytes())
    sent = pack(folder, tmp_path / "package.zip")
    assert [name for name in sent if not name.startswith(".")] == ["a.py"]
