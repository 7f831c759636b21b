from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_sample_data_is_written_once(
    sample: Path, exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert any(sample.rglob("*.png"))
    assert exit_code("sample-data", str(sample)) == 2
    assert str(sample) in capsys.readouterr().err
