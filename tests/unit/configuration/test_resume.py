"""Settings of a run that is resumed, compared with those it was begun with."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.resume import differences


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


def test_a_group_of_settings_may_have_grown() -> None:
    now = to_dict(Config())
    was = copy.deepcopy(now)
    del was["dataset"]["augment"]["degrees"]
    assert differences(was, now) == []
    was["dataset"]["augment"]["shear"] = 3.0
    assert differences(was, now) == ["dataset.augment.shear was 3.0, is 0.0"]
