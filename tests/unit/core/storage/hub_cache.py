"""The hub's client, replaced: what it fetches lies in a folder for each commit, as with the real one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest


def use_client(monkeypatch: pytest.MonkeyPatch, hf_hub_download: Callable[..., str]) -> None:
    """Let sam2vt fetch by this function."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    constants = SimpleNamespace(HF_HUB_CACHE="/cache/hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)


def fetched(folder: Path, commit: str, file: str, text: str) -> str:
    """Write a file into the cache and return its place."""
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)
