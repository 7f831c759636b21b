"""Files of the hub, by a client that only notes what it is asked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sam2vt.core.storage.fetching import checkpoint_sha256, local_copy, pinned
from sam2vt.errors import CheckpointError

from .hub_cache import fetched, use_client

COMMIT, OLDER = "a" * 40, "b" * 40
TINY = "facebook/sam2.1-hiera-tiny"


class Hub:
    """Keeps files as the real client does: in a folder for each commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits = {None: COMMIT, "main": COMMIT, "refs/pr/1": OLDER, "v1": OLDER, OLDER: OLDER}
        self.asked: list[tuple[str, str, str | None]] = []

    def hf_hub_download(self, repository: str, file: str, revision: str | None = None) -> str:
        self.asked.append((repository, file, revision))
        if revision not in self.commits:
            raise ValueError(f"404: no revision {revision}")
        return fetched(self.folder, self.commits[revision], file, self.commits[revision])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path)
    use_client(monkeypatch, fake.hf_hub_download)
    return fake


@pytest.mark.parametrize(
    ("address", "asked", "commit"),
    [
        (f"hf://{TINY}", (TINY, "sam2.1_hiera_tiny.pt", None), COMMIT),
        (f"hf://{TINY}@v1", (TINY, "sam2.1_hiera_tiny.pt", "v1"), OLDER),
        (f"hf://{TINY}/a/b.pt", (TINY, "a/b.pt", None), COMMIT),
        (f"hf://{TINY}@main/a@b.pt", (TINY, "a@b.pt", "main"), COMMIT),
        (f"hf://{TINY}@refs%2Fpr%2F1/b.pt", (TINY, "b.pt", "refs/pr/1"), OLDER),
        (f"hf://{TINY}@{OLDER}/b.pt", (TINY, "b.pt", OLDER), OLDER),
    ],
)
def test_a_revision_and_a_file_are_asked_for(
    hub: Hub, address: str, asked: tuple[str, str, str | None], commit: str
) -> None:
    with local_copy(address) as local:
        assert Path(local).read_text() == commit
    assert hub.asked == [asked]


def test_a_branch_is_pinned_to_its_commit(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sam2vt"):
        fixed = pinned(f"hf://{TINY}")
    assert fixed == f"hf://{TINY}@{COMMIT}/sam2.1_hiera_tiny.pt"
    assert COMMIT in caplog.text
    hub.commits[None] = OLDER  # the branch moves
    with local_copy(fixed.replace(COMMIT, "main")) as local:
        assert Path(local).read_text() == COMMIT
    asked = len(hub.asked)
    assert pinned(fixed) == fixed
    assert len(hub.asked) == asked
    assert pinned(f"hf://{TINY}@v1/a/b.pt") == f"hf://{TINY}@{OLDER}/a/b.pt"


@pytest.mark.parametrize("path", ["weights.pt", "s3://bucket/weights.pt", "~/weights.pt"])
def test_other_places_are_left_as_they_are(hub: Hub, path: str) -> None:
    assert pinned(path) == path
    assert not hub.asked


@pytest.mark.parametrize("path", ["hf://owner", "hf://owner/", "hf:///name", f"hf://{TINY}@", "hf://a@b/c"])
def test_what_is_no_address_is_told_how_to_write_one(hub: Hub, path: str) -> None:
    with pytest.raises(CheckpointError, match=r"write hf://<owner>/<repository>\[@<revision>\]"):
        pinned(path)
    assert not hub.asked


def test_an_unknown_revision_is_one_message(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="cannot be fetched from the hub: 404: no revision gone"):
        checkpoint_sha256(f"hf://{TINY}@gone")
