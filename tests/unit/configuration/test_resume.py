"""Settings of a run that is resumed, compared with those it was begun with."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.resume import differences, remarks


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        (None, {"rank": 4}, "model.adapter_settings was null, is {'rank': 4}"),
        ({"rank": 4}, {"rank": 4, "alpha": 1}, "is {'rank': 4, 'alpha': 1}"),
        ({"rank": 4, "alpha": 1}, {"rank": 4}, "is {'rank': 4}"),
        ({"rank": 4}, {"rank": 4}, None),
    ],
)
def test_mappings_are_compared_whole(was: Any, now: Any, line: str | None) -> None:
    before, after = to_dict(Config()), to_dict(Config())
    before["model"]["adapter_settings"], after["model"]["adapter_settings"] = was, now
    found = differences(before, after)
    assert (found == []) if line is None else (len(found) == 1 and line in found[0])


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ({}, {"davis": {"prompt_types": ["box"]}}, None),
        ({"davis": {"prompt_types": ["box"]}}, {}, None),
        ({"davis": {}}, {"davis": {"prompt_types": ["box"]}}, "valdatasets.davis.prompt_types was ['mask']"),
        ({"davis": {"data_path": "a"}}, {"davis": {"data_path": "b", "num_workers": 1}}, None),
        ({"davis": {}}, {"davis": {"datasets": [{"data_path": "a"}, {"data_path": "b"}]}}, "davis.datasets"),
    ],
)
def test_a_further_set_may_come_and_go_but_stays_what_it_was(was: Any, now: Any, line: str | None) -> None:
    found = differences(to_dict(Config(valdatasets=was)), to_dict(Config(valdatasets=now)))
    assert (found == []) if line is None else (len(found) == 1 and line in found[0])


def test_runs_of_versions_without_further_sets_resume() -> None:
    was, now = to_dict(Config()), to_dict(Config(valdatasets={"davis": {"data_path": "a"}}))
    del was["valdatasets"]
    assert differences(was, now) == remarks(was, now) == []


def test_a_further_set_that_moved_is_remarked() -> None:
    was, now = (to_dict(Config(valdatasets={"davis": {"data_path": path}})) for path in "ab")
    assert remarks(was, now) == ["valdatasets.davis.data_path was 'a', is 'b': must hold the same data"]


def test_a_group_of_settings_may_have_grown() -> None:
    now = to_dict(Config())
    was = copy.deepcopy(now)
    del was["dataset"]["augment"]["degrees"]
    assert differences(was, now) == []
    was["dataset"]["augment"]["shear"] = 3.0
    assert differences(was, now) == ["dataset.augment.shear was 3.0, is 0.0"]
