"""Lines of the log, and the first one, which nothing heavy comes before."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest

from sam2vt.config import Config
from sam2vt.logs import Lines, digits, is_first_rank, opening_line, quiet_lightning

REPO = Path(__file__).resolve().parents[2]
# Runs a script up to its first line of the log, and prints which heavy packages are loaded by then.
UP_TO_THE_FIRST_LINE = """
import logging, os, runpy, sys

class FirstLine(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), [m for m in ("torch", "lightning", "ray", "sam2") if m in sys.modules])
        sys.stdout.flush()
        os._exit(0)

logging.getLogger("sam2vt").addHandler(FirstLine())
sys.argv = sys.argv[1:]
sys.path.insert(0, os.getcwd())
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["sam2vt/cli.py train", "ray_jobs/train.py"])
def test_the_first_line_comes_before_torch_lightning_and_ray(script: str, tmp_path: Path) -> None:
    overrides = ["model=nano", f"dataset.data_path={tmp_path}", f"output_dir={tmp_path / 'run'}"]
    command = [sys.executable, "-c", UP_TO_THE_FIRST_LINE, *script.split(), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    told = f"training sam2.1_nano from random weights on {tmp_path} into {tmp_path / 'run'}"
    assert done.stdout == f"{told} []\n", done.stderr


def record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("sam2vt.core.a.module", level, __file__, 1, "%s of it", (text,), None)


def test_lines_begin_with_the_time_and_name_what_is_a_warning() -> None:
    line, warning = (Lines().format(record(level, "2")) for level in (logging.INFO, logging.WARNING))
    assert line[2:3] + line[8:] == ": 2 of it"
    assert warning[8:] == " WARNING: 2 of it"
    of_a_file = Lines("another format", "%Y", "%", True)
    assert of_a_file.format(record(logging.INFO, "2")).split()[0].isdecimal()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05, "0.0500"),
        (0.71349, "0.713"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1234"),
        (1e30, "1.00e+30"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (0.0, "0.00"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert digits(value) == text


def test_the_first_line_names_network_weights_data_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(output_dir="runs/mine", split="video")
    config.dataset.data_path = "my_videos"
    told = "training sam2.1_hiera_t from {} on my_videos, split=video into {}"
    assert opening_line(config) == told.format("random weights", "runs/mine")
    for path, name in (
        ("hf://facebook/sam2.1-hiera-tiny@main", "sam2.1-hiera-tiny"),
        ("weights/tiny.pt", "tiny.pt"),
    ):
        config.model.checkpoint_path = path
        assert opening_line(config) == told.format(name, "runs/mine")
    config.ray.storage_path = "s3://bucket/runs"
    assert opening_line(config, by_ray=True) == told.format("tiny.pt", "s3://bucket/runs/mine")
    config.dataset.data_path, config.output_dir = "", "/elsewhere"
    config.dataset.datasets = [{"data_path": "a"}, {"data_path": "b"}]
    assert opening_line(config).endswith(" on a, b, split=video into /elsewhere")


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_further_ranks_leave_the_first_line_to_the_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(each, raising=False)
    assert is_first_rank()
    monkeypatch.setenv(name, "1")
    assert not is_first_rank()


@pytest.mark.parametrize(("level", "shown"), [("INFO", False), ("debug", True)])
def test_lightning_s_remarks_are_for_debugging(level: str, shown: bool) -> None:
    lightning = logging.getLogger("lightning.pytorch")
    before = lightning.level
    try:
        quiet_lightning(level)
        assert lightning.getChild("utilities.rank_zero").isEnabledFor(logging.INFO) == shown
        assert lightning.isEnabledFor(logging.WARNING)
    finally:
        lightning.setLevel(before)
