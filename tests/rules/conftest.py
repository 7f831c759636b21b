"""Settings are checked as where every optional package is installed."""

from __future__ import annotations

import pytest

from sam2vt.configuration import model_conflicts


@pytest.fixture(autouse=True)
def optional_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_conflicts, "missing", lambda *_: None)
