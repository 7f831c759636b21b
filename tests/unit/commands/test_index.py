from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sam2vt import cli
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.records.table import RecordTable


def test_index_writes_the_records(
    sample: Path, tmp_path: Path, exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "videos.parquet"
    cli.main(["index", str(sample), str(table)])
    assert f"1 videos: {table}" in capsys.readouterr().out
    assert list(RecordTable(table)) == load_records("auto", sample)
    assert exit_code("index", str(sample), str(tmp_path / "videos")) == 2
    assert "has to end in .parquet" in capsys.readouterr().err
