"""What is deployed is what is tested: versions, and nothing that must not be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
FILES = ("cluster.yaml", "deploy/gcp.yaml", "deploy/Dockerfile", "deploy/kuberay/raycluster.yaml")
FILES += ("deploy/kuberay/rayjob.yaml", "deploy/kuberay/kustomization.yaml")
# A key of AWS, a private key, a token as Ray makes them, and anything long that is assigned to such a name.
SECRETS = (
    r"AKIA[0-9A-Z]{16}",
    r"-----BEGIN",
    r"\b[0-9a-f]{32,}\b",
    r"(?i)(secret|password|passwd|token|access_key|api_key)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/_\-]{12,}",
)


def text(name: str) -> str:
    return (REPO / name).read_text()


def pins() -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text("constraints.txt"), re.MULTILINE))


def test_every_deployment_is_looked_at() -> None:
    found = {path.relative_to(REPO).as_posix() for path in (REPO / "deploy").rglob("*") if path.is_file()}
    assert found | {"cluster.yaml"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_ray_is_that_of_the_constraints(name: str) -> None:
    named = re.findall(r"rayproject/ray:([\d.]+)", text(name)) + re.findall(r'rayVersion: "(.*)"', text(name))
    assert named or name.endswith("kustomization.yaml")
    assert set(named) <= {pins()["ray"]}


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/gcp.yaml", "deploy/Dockerfile"])
def test_everything_is_installed_at_the_versions_of_the_constraints(name: str) -> None:
    commands = [line for line in text(name).splitlines() if "pip install" in line]
    own = [line for line in commands if "==" not in line]
    assert len(own) == 3
    assert all("-c " in line and "constraints.txt" in line for line in own)
    assert [line.split()[-1] for line in own if "no-build-isolation" in line] == ["sam2"]


def test_images_of_the_package_carry_its_version() -> None:
    version = re.findall(r'^version = "(.*)"', text("pyproject.toml"), re.MULTILINE)[0]
    named = {tag for name in FILES for tag in re.findall(r"REGISTRY/sam2vt:([\w.]+)", text(name))}
    assert named == {version}


@pytest.mark.parametrize("name", FILES)
def test_no_secret_lies_in_it(name: str) -> None:
    assert [match.group() for pattern in SECRETS for match in re.finditer(pattern, text(name))] == []


def test_a_secret_would_be_found() -> None:
    samples = ("RAY_AUTH_TOKEN=" + "0f" * 32, "aws: AKIA" + "A1" * 8, "password: correct-horse-battery")
    for sample in samples:
        assert any(re.search(pattern, sample) for pattern in SECRETS), sample


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)", text("deploy/Dockerfile"), re.MULTILINE)
    assert users == ["ray"]


def test_the_image_copies_what_the_ignore_file_lets_through() -> None:
    copied = re.findall(r"^COPY \S+ (.*) \S+$", text("deploy/Dockerfile"), re.MULTILINE)
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    assert {name for names in copied for name in names.split()} == allowed
    assert all((REPO / name).exists() for name in allowed)
