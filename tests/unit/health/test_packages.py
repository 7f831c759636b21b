"""Installed packages against what is required; metadata stand for packages."""

from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from sam2vt.health import packages
from sam2vt.health.finding import BROKEN, NOTE, OK, Finding

VERSIONS = {
    "torch": "2.6.0+cu124",
    "torchvision": "0.21.0",
    "ray": "2.60.0",
    "lightning": "2.6.6",
    "sam2": "1.1.0",
    "av": "14.0.1",
    "opencv-python-headless": "4.10.0.84",
    "tqdm": "4.67",
}
REQUIRES = {
    "sam2vt": ["torch>=2.5.1", "ray[data]>=2.59", "opencv-python>=4.10", "av>=14", "tqdm>=4.66"]
    + ['sam2>=1.1.0; extra == "sam2"', 'wandb>=0.18; extra == "wandb"', "no requirement >"],
    "torchvision": ["numpy", "torch==2.6.0"],
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions by distribution, which a test may change; a module is there if its distribution is."""
    versions = dict(VERSIONS)

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", REQUIRES.get)
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.10,<3.99"})
    monkeypatch.setattr(
        packages,
        "find_spec",
        lambda name: (
            SimpleNamespace(submodule_search_locations=["/x"], origin="/x") if name in versions else None
        ),
    )
    return versions


def found() -> dict[str, Finding]:
    return {each.name: each for each in packages.required()}


def test_a_whole_installation_has_no_fault(environment: dict[str, str]) -> None:
    assert {each.state for each in packages.required()} == {OK}
    shown = ("torch", "torchvision", "ray", "lightning", "sam2", "av", "opencv")
    assert list(found()) == ["python", "sam2vt", *shown]
    assert found()["opencv"].value == "4.10.0.84"  # another build of it


@pytest.mark.parametrize(
    ("name", "version", "value", "fix"),
    [
        ("torch", "2.4.0", "2.4.0, not >=2.5.1", "pip install 'torch>=2.5.1'"),
        ("ray", None, "missing", "pip install 'ray[data]>=2.59'"),
        ("tqdm", None, "missing", "pip install 'tqdm>=4.66'"),
        ("tqdm", "4.1", "4.1, not >=4.66", "pip install 'tqdm>=4.66'"),
        ("sam2", None, "missing", "SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2"),
    ],
)
def test_what_is_missing_or_old_is_broken_and_has_a_fix(
    environment: dict[str, str], name: str, version: str | None, value: str, fix: str
) -> None:
    environment.pop(name)
    if version:
        environment[name] = version
    each = next(each for each in packages.required() if each.name == name)
    assert (each.value, each.state) == (value, BROKEN)
    assert each.fix.startswith(fix)


def test_a_torch_that_was_replaced_alone(environment: dict[str, str]) -> None:
    environment["torch"] = "2.7.0"
    wrong = [each for each in packages.required() if each.state == BROKEN]
    assert [each.name for each in wrong] == ["torchvision"]
    assert wrong[0].value == "is built for torch==2.6.0, but torch is 2.7.0"


def test_a_python_that_is_too_new(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.99.1")
    assert found()["python"][1:3] == ("3.99.1, not >=3.10,<3.99", BROKEN)


def test_a_clone_without_metadata_is_no_fault(environment: dict[str, str], monkeypatch: Any) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    monkeypatch.setattr(metadata, "metadata", missing)
    assert {each.state for each in packages.required()} == {OK}


def test_metas_own_repository_serves(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment["SAM-2"] = environment.pop("sam2")
    spec = SimpleNamespace(submodule_search_locations=["/clone/sam2"])
    monkeypatch.setattr(packages, "find_spec", lambda name: spec)
    assert found()["sam2"] == Finding("sam2", "1.1.0")
    del environment["SAM-2"]
    assert found()["sam2"] == Finding("sam2", "from /clone/sam2")


def test_optional_packages_are_no_fault(environment: dict[str, str]) -> None:
    environment["wandb"] = "0.19"
    hub, *_, wandb, mlflow = packages.optional()
    assert (hub.name, hub.state) == ("huggingface_hub", NOTE)
    assert hub.fix.startswith("pip install ")
    assert hub.fix.endswith("[hub]'")
    assert wandb == Finding("wandb", "0.19")
    assert (mlflow.name, mlflow.state) == ("mlflow", NOTE)


def test_another_distribution_of_mlflow_serves(environment: dict[str, str]) -> None:
    environment["mlflow-skinny"] = "3.17.2"
    assert packages.installed("mlflow") == "3.17.2"


def test_a_folder_is_no_package(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb_of_nobody").mkdir()  # W&B leaves a folder `wandb` where it is used
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.missing("wandb_of_nobody") == (
        "wandb_of_nobody is not installed; `pip install wandb_of_nobody`"
    )
    assert packages.missing("json") is None
