"""What a run says at its end, with and without Ray."""

from __future__ import annotations

from typing import Any

import pytest

from sam2vt.config import Config, DatasetConfig, ValDatasetConfig
from sam2vt.run_summary import summarise

GIVEN: dict[str, Any] = {
    "checkpoint": "/runs/a/checkpoints/best.ckpt",
    "exported": "export/sam2.pt",
    "steps": 40,
    "clips_per_second": 3.214,
    "hold_first": {"J": 0.41, "F": 0.3, "J&F": 0.355},
    "next_commands": {"scores on other videos": "sam2vt evaluate /runs/a other_videos"},
}
ROWS = [
    {"step": step, "val/J": j, "val/F": f, "val/J&F": (j + f) / 2}
    for step, j, f in ((0, 0.02, 0.01), (20, 0.7, 0.6), (40, 0.6, 0.6))
]
ROWS.append({"step": 40, "train/loss": 0.5})


def summary(config: Config, rows: list[dict[str, float]] = ROWS, **changes: Any) -> str:
    return str(summarise(config, "/runs/a", rows, **{**GIVEN, **changes}))


def test_says_what_came_of_it_and_where_it_lies() -> None:
    text = summary(Config(dataset=DatasetConfig(data_path="v")))
    rows = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert rows["before training"][:3] == ["0.020", "0.010", "0.015"]
    assert rows["after (last)"] == ["0.600", "0.600", "0.600", "step", "40"]
    assert rows["after (best)"] == ["0.700", "0.600", "0.650", "step", "20"]
    assert rows["first mask held"] == ["0.410", "0.300", "0.355"]
    assert rows["clips per second"] == ["3.21", "over", "40", "steps"]
    assert rows["checkpoint"] == ["/runs/a/checkpoints/best.ckpt"]
    assert rows["SAM 2 checkpoint"] == ["/runs/a/export/sam2.pt"]
    assert rows["overlays"] == ["/runs/a/overlays"]
    assert "very videos that were trained on" in text
    assert text.endswith("next:\n  scores on other videos\n    sam2vt evaluate /runs/a other_videos")
    assert max(map(len, text.splitlines())) <= 80


def test_swaps_are_a_column_where_objects_could_be_mistaken() -> None:
    rows = [ROWS[0], *(row | {"val/swap_rate": 0.25} for row in ROWS[1:3])]
    text = summary(Config(split="video"), rows, hold_first={**GIVEN["hold_first"], "swap_rate": 0.5})
    table = text.splitlines()
    assert table[0].split() == ["J", "F", "J&F", "swaps"]
    assert table[1] == "before training     0.020  0.010  0.015          step 0"
    assert table[2] == "after (best)        0.700  0.600  0.650  0.250   step 20"
    assert table[4] == "first mask held     0.410  0.300  0.355  0.500"
    assert table[5] == "swaps: frames on another object, of those on any where several are visible"
    assert "swaps" not in summary(Config(split="video"))


@pytest.mark.parametrize(
    "config", [Config(split="video"), Config(split="none", valdataset=ValDatasetConfig(data_path="other"))]
)
def test_held_back_videos_need_no_remark(config: Config) -> None:
    assert "trained on" not in summary(config)


def test_each_further_set_has_a_table_at_the_steps_of_the_first() -> None:
    held = {"val/davis/J_hold_first": 0.2, "val/davis/F_hold_first": 0.3, "val/davis/J&F_hold_first": 0.25}
    names = ("val/davis/J", "val/davis/F", "val/davis/J&F")
    further = [dict.fromkeys(names, value) | held for value in (0.9, 0.8, 0.7)]
    rows = [row | more for row, more in zip(ROWS, further)]
    sets = {"davis": {"data_path": "d"}, "late": {"data_path": "l"}}
    text = summary(Config(split="video", valdatasets=sets), rows)
    table = text.partition("davis")[2].splitlines()
    assert table[0].split() == ["J", "F", "J&F"]
    assert table[1].split()[:3] == ["before", "training", "0.900"]
    assert table[2].split() == ["after", "(best)", "0.800", "0.800", "0.800", "step", "20"]
    assert table[3].split()[2:] == ["0.700", "0.700", "0.700", "step", "40"]
    assert table[4].split()[-3:] == ["0.200", "0.300", "0.250"]
    assert "late" not in text  # it has no score yet


def test_a_run_without_validation_and_checkpoints() -> None:
    text = summary(Config(), [], hold_first=None, exported=None, checkpoint=None, next_commands={})
    assert text.splitlines() == ["clips per second  3.21 over 40 steps", "run folder        /runs/a"]
