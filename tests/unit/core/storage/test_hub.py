"""Repositories of the hub in the form of transformers, by a client that only notes what it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam2vt.core.model.network_yaml import yaml_beside
from sam2vt.core.storage.fetching import pinned
from sam2vt.core.storage.hub import download
from sam2vt.errors import CheckpointError

from .hub_cache import fetched, use_client

COMMIT = "a" * 40
VIDEO = json.dumps({"model_type": "sam2_video"})


class EntryNotFoundError(Exception):
    """As the client's own, known by its name."""


class LocalEntryNotFoundError(EntryNotFoundError):
    """No network, and not in the cache."""


class RevisionNotFoundError(Exception):
    """No such branch."""


class Hub:
    """Keeps files as the real client does: in a folder for each commit."""

    def __init__(self, folder: Path) -> None:
        self.files = {"config.json": VIDEO, "model.safetensors": "weights"}
        self.folder, self.asked = folder, []
        self.is_offline, self.cached = False, set()

    def hf_hub_download(
        self, repository: str, file: str, revision: str | None = None, local_files_only: bool = False
    ) -> str:
        self.asked.append(file if not local_files_only else f"{file} of the cache")
        if self.is_offline and not (local_files_only and file in self.cached):
            raise LocalEntryNotFoundError("An error happened while trying to locate the file.\nMore")
        if revision == "gone":
            raise RevisionNotFoundError("404")
        if file not in self.files:
            raise EntryNotFoundError(f"404: {file}")
        return fetched(self.folder, COMMIT, file, self.files[file])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path)
    use_client(monkeypatch, fake.hf_hub_download)
    return fake


def test_without_a_file_metas_form_comes_first(hub: Hub) -> None:
    hub.files["tuned.pt"] = "Meta's"
    assert pinned("hf://me/tuned") == f"hf://me/tuned@{COMMIT}/tuned.pt"
    assert hub.asked == ["tuned.pt"]


def test_a_repository_of_transformers_is_found_and_pinned(hub: Hub) -> None:
    fixed = pinned("hf://me/tuned@main")
    assert fixed == f"hf://me/tuned@{COMMIT}/model.safetensors"
    assert hub.asked == ["tuned.pt", "config.json", "model.safetensors"]
    assert pinned(fixed) == fixed
    assert Path(download(fixed)).read_text() == "weights"
    assert Path(str(yaml_beside(fixed))).read_text() == VIDEO


def test_a_commit_without_a_file_gets_one(hub: Hub) -> None:
    assert pinned(f"hf://me/tuned@{COMMIT}") == f"hf://me/tuned@{COMMIT}/model.safetensors"


def test_a_folder_within_a_repository(hub: Hub) -> None:
    hub.files |= {"b/config.json": VIDEO, "b/model.safetensors": "other"}
    assert Path(download("hf://me/tuned/b/model.safetensors")).read_text() == "other"
    assert hub.asked == ["b/config.json", "b/model.safetensors"]


def test_another_model_is_refused_before_its_weights_are_fetched(hub: Hub) -> None:
    hub.files["config.json"] = json.dumps({"model_type": "vit"})
    with pytest.raises(CheckpointError, match="model_type is 'vit'; needed is 'sam2_video'"):
        pinned("hf://me/tuned")
    assert hub.asked == ["tuned.pt", "config.json"]


def test_a_repository_in_neither_form(hub: Hub) -> None:
    hub.files = {}
    with pytest.raises(
        CheckpointError, match=r"has neither tuned\.pt nor config\.json with model\.safetensors"
    ):
        pinned("hf://me/tuned")


def test_a_revision_that_is_not_there(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="fetched from the hub: 404. Name a branch, tag or commit that"):
        pinned("hf://me/tuned@gone")


def test_no_network_names_the_folder_for_the_files(hub: Hub) -> None:
    hub.is_offline = True
    words = (
        r"Without network, .*hf download me/tuned --revision v1 --local-dir.*models--me--tuned.*/cache/hub"
    )
    with pytest.raises(CheckpointError, match=words):
        pinned("hf://me/tuned@v1")
    assert hub.asked == ["tuned.pt", "config.json of the cache"]


def test_no_network_and_the_files_in_the_cache(hub: Hub) -> None:
    hub.is_offline, hub.cached = True, {"config.json", "model.safetensors"}
    assert pinned("hf://me/tuned") == f"hf://me/tuned@{COMMIT}/model.safetensors"
