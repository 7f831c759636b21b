"""`sam2vt push`, by a client that only notes what it is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sam2vt import cli

TOKEN = "hf_" + "x" * 30


class Api:
    """A hub with at most one repository."""

    def __init__(self) -> None:
        self.private: bool | None = None
        self.asked: list[dict] = []
        self.fails = ""
        self.error: type[Exception] = ValueError

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        if self.fails:
            raise self.error(self.fails)
        if self.private is None:
            self.private = private

    def repo_info(self, repository: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, **how: object) -> SimpleNamespace:
        self.asked.append(how)
        return SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    fake = Api()
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda: fake))
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("config.json", '{"model_type": "sam2_video"}'),
        ("model.safetensors", "weights"),
        ("README.md", "# tuned\n\nSay here under which licence it may be used.\n"),
        ("notes.txt", "of the author alone"),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def push(*arguments: object) -> None:
    cli.main(["push", *map(str, arguments)])


def test_nothing_is_uploaded_unless_that_is_asked_for(api: Api, folder: Path, capsys) -> None:
    push(folder, "me/tuned")
    out = capsys.readouterr().out
    assert "nothing was uploaded; --yes uploads" in out
    assert "private if it is created now" in out
    assert "has gaps that only you can fill" in out
    assert "notes.txt" not in out
    assert (api.private, api.asked) == (None, [])


@pytest.mark.parametrize("options", [(), ("--public",)])
def test_the_files_of_an_export_are_uploaded_and_no_others(api: Api, folder: Path, capsys, options) -> None:
    push(folder, "me/tuned", "--yes", *options)
    assert api.private == (not options)
    (how,) = api.asked
    assert how["allow_patterns"] == ["README.md", "config.json", "model.safetensors"]
    assert (how["repo_id"], how["folder_path"]) == ("me/tuned", folder)
    assert "uploaded: https://hub/commit/1" in capsys.readouterr().out


def refused(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        push(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_public_repository_has_to_be_meant(api: Api, folder: Path, capsys) -> None:
    api.private = False
    assert "is public on the hub; upload with --public" in refused(capsys, folder, "me/tuned", "--yes")
    assert not api.asked


def test_a_token_is_never_shown(api: Api, folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    api.fails = f"401 for Bearer {TOKEN}: not allowed"
    error = refused(capsys, folder, "me/tuned", "--yes")
    assert "cannot be uploaded to the hub: 401 for Bearer hf_***: not allowed" in error
    assert TOKEN not in error


class ConnectError(Exception):
    """Of the client's library, by its name."""


def test_a_hub_that_does_not_answer_is_no_matter_of_rights(api: Api, folder: Path, capsys) -> None:
    api.fails, api.error = "Name or service not known", ConnectError
    error = refused(capsys, folder, "me/tuned", "--yes")
    assert "Name or service not known. See that this machine reaches the hub" in error
    assert "hf auth login" not in error


@pytest.mark.parametrize("repository", ["tuned", "hf://me/tuned", "me/tuned/x", "me/..", "https://hub/me"])
def test_names_that_are_no_repository(api: Api, folder: Path, capsys, repository: str) -> None:
    assert "must be <owner>/<name> on the hub" in refused(capsys, folder, repository, "--yes")


def test_what_is_no_export(api: Api, tmp_path: Path, capsys) -> None:
    assert "is no folder for transformers" in refused(capsys, tmp_path, "me/tuned", "--yes")
    assert "is no folder for transformers" in refused(capsys, tmp_path / "gone", "me/tuned")
