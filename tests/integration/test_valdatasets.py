"""Further validation sets from the configuration to the run folder, and across a resume."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest

from sam2vt.config import Config
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.callbacks.results_csv import read_rows
from sam2vt.errors import Sam2vtError
from sam2vt.train import train

SETS = {"clicks": {"prompt_types": ["point"]}}


@pytest.fixture
def config(tiny_config, tmp_path) -> Config:
    config = copy.deepcopy(tiny_config)
    config.output_dir, config.trainer.max_epochs = str(tmp_path / "run"), 2
    config.valdatasets = copy.deepcopy(SETS)
    return config


def rows_of(config: Config) -> list[dict[str, str]]:
    """The rows of a run without what the clock says."""
    rows = read_rows(Path(config.output_dir) / "results.csv")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def header_of(config: Config) -> list[str]:
    return (Path(config.output_dir) / "results.csv").read_text().partition("\n")[0].split(",")


def test_a_set_is_in_every_result_and_a_resume_is_exact(config, tmp_path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        train(config)
    whole, header = rows_of(config), header_of(config)
    assert [row["step"] for row in whole] == ["0", "3", "6"]
    assert all({"val/J&F", "val/clicks/J&F", "val/clicks/loss"} <= row.keys() for row in whole)
    folder = Path(config.output_dir)
    assert (folder / "val_scores-clicks.csv").is_file()
    assert "val/clicks/J&F 0." in caplog.text
    assert "the last validation on clicks:" in caplog.text
    end = caplog.text.partition("done\n")[2]
    assert end.count("before training") == 2
    assert "\nclicks " in end
    best = [line for line in end.splitlines() if line.startswith("after (best)")]
    assert len({line.partition("step")[2] for line in best}) == 1  # the checkpoint that is kept

    again = copy.deepcopy(config)
    again.output_dir = str(tmp_path / "again")
    again.trainer.max_epochs = 1
    train(again)
    again.trainer.max_epochs, again.resume = 2, "auto"
    train(again)
    assert rows_of(again) == whole
    assert header_of(again) == header


def test_a_set_may_come_and_go_but_not_change_with_a_resume(config, tmp_path) -> None:
    config.trainer.max_epochs, config.valdatasets = 1, {}
    train(config)
    write_sample_data(tmp_path / "other", num_videos=1, num_frames=5, size=(48, 64), seed=3)
    config.resume, config.trainer.max_epochs = "auto", 2
    config.valdatasets = {"davis": {"data_path": str(tmp_path / "other")}}
    train(config)
    assert ["val/davis/J&F" in row for row in rows_of(config)] == [False, False, True]
    assert "val/davis/J&F" in header_of(config)

    config.trainer.max_epochs = 3
    config.valdatasets["davis"]["prompt_types"] = ["box"]
    with pytest.raises(Sam2vtError, match=r"valdatasets\.davis\.prompt_types was \['mask'\], is \['box'\]"):
        train(config)
    config.valdatasets = {}
    train(config)
    assert ["val/davis/J&F" in row for row in rows_of(config)] == [False, False, True, False]
