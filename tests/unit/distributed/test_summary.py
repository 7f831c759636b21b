from __future__ import annotations

from typing import Any

import pytest

from sam2vt.config import Config, DatasetConfig, ValDatasetConfig
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.summary import summarise

OUTCOME: dict[str, Any] = {
    "steps": 40,
    "clips_per_second": 3.21,
    "first": {"step": 0.0, "J": 0.02, "F": 0.01, "J&F": 0.015},
    "best": {"step": 20.0, "J": 0.7, "F": 0.6, "J&F": 0.65},
    "last": {"step": 40.0, "J": 0.6, "F": 0.6, "J&F": 0.6},
    "hold_first": {"J": 0.41, "F": 0.3, "J&F": 0.355},
    "exported": "export/sam2.pt",
}


def test_says_what_came_of_it_and_where_it_lies() -> None:
    text = str(summarise(Config(dataset=DatasetConfig(data_path="v")), RunStorage("/runs/a"), OUTCOME))
    rows = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert rows["before training"][:3] == ["0.020", "0.010", "0.015"]
    assert rows["after (best)"] == ["0.700", "0.600", "0.650", "step", "20"]
    assert rows["first mask held"] == ["0.410", "0.300", "0.355"]
    assert rows["clips per second"][0] == "3.21"
    assert rows["SAM 2 checkpoint"] == ["/runs/a/export/sam2.pt"]
    assert rows["overlays"] == ["/runs/a/overlays"]
    assert "very videos that were trained on" in text


@pytest.mark.parametrize(
    "config", [Config(split="video"), Config(split="none", valdataset=ValDatasetConfig(data_path="other"))]
)
def test_held_back_videos_need_no_remark(config: Config) -> None:
    assert "trained on" not in str(summarise(config, RunStorage("/runs/a"), OUTCOME))


def test_a_run_without_validation() -> None:
    outcome = {**OUTCOME, **dict.fromkeys(("first", "best", "last", "hold_first", "exported"))}
    text = str(summarise(Config(), RunStorage("/runs/a"), outcome))
    assert "first mask held" not in text
    assert "SAM 2 checkpoint" not in text
