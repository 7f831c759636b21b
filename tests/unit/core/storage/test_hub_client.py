"""Repositories of the hub by its real client, from a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hub_server import COMMIT, HubServer, hub_server

TOKEN = "hf_" + "y" * 30
FETCH = """
import sys
from sam2vt.core.storage.fetching import local_copy, pinned
from sam2vt.errors import CheckpointError
try:
    print(pinned(sys.argv[1]))
    with local_copy(pinned(sys.argv[1])) as local:
        print(open(local).read())
except CheckpointError as error:
    print(error)
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server(TOKEN) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tuned"
    folder.mkdir()
    for name, text in (
        ("config.json", '{"model_type": "sam2_video"}'),
        ("model.safetensors", "weights"),
        ("README.md", "---\nlibrary_name: transformers\n---\n# tuned\n"),
        ("notes.txt", "of the author alone"),
    ):
        (folder / name).write_text(text)
    return folder


def python(hub: HubServer, home: Path, *arguments: object, token: str = TOKEN) -> tuple[int, str]:
    """Run Python with that hub, whose client reads its variables when it is imported; code and output."""
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_TOKEN": token}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own}, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_what_is_pushed_is_fetched_again(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    push = ("-m", "sam2vt", "push", folder, "me/tuned")
    assert python(hub, tmp_path, *push)[0] == 0
    assert (hub.visibility, hub.files) == (None, {})
    code, text = python(hub, tmp_path, *push, "--yes")
    assert code == 0, text
    assert f"uploaded: {hub.address}/me/tuned/commit/{COMMIT}" in text
    assert hub.visibility == "private"
    assert hub.files == {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix != ".txt"}
    _, text = python(hub, tmp_path, "-c", FETCH, "hf://me/tuned")
    assert text.split()[-2:] == [f"hf://me/tuned@{COMMIT}/model.safetensors", "weights"]
    assert python(hub, tmp_path, *push, "--yes")[0] == 0  # into the same repository


def test_the_real_client_s_refusals_say_what_to_do(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    code, text = python(hub, tmp_path, "-m", "sam2vt", "push", folder, "me/tuned", "--yes", token="hf_wrong")
    assert code == 2
    assert "cannot be uploaded to the hub" in text
    assert "hf auth login" in text
    assert "Traceback" not in text
    assert "See that the name is right" in python(hub, tmp_path, "-c", FETCH, "hf://me/tuned")[1]
    hub.visibility, hub.files = "public", {"other.pt": b""}
    assert "has neither tuned.pt nor config.json" in python(hub, tmp_path, "-c", FETCH, "hf://me/tuned")[1]
    assert "Name a branch, tag" in python(hub, tmp_path, "-c", FETCH, "hf://me/tuned@gone/other.pt")[1]
