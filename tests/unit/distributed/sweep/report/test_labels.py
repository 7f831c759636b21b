from __future__ import annotations

from typing import Any

import pytest

from sam2vt.distributed.sweep.report.labels import Scale


def test_scales() -> None:
    log = Scale.of([1e-5, 1e-3], log=True)
    assert log.unit(1e-4) == pytest.approx(0.5)
    assert [text for _, text in log.ticks] == ["1e-5", "1e-4", "0.001"]
    assert Scale.of([0, 10], log=False).unit(5) == pytest.approx(0.5)
    kinds = Scale.of([True, "b", ["c", "d"]], log=False)
    assert [text for _, text in kinds.ticks] == ["b", "c, d", "true"]
    assert kinds.is_categorical


def test_zero_stands_apart_on_a_logarithmic_scale() -> None:
    scale = Scale.of([0.0, 0.1, 10.0], log=True)
    assert scale.unit(0.0) == 0 < scale.unit(0.1) < scale.unit(10.0) == 1
    assert scale.ticks[0][1] == "0"


@pytest.mark.parametrize("values", [[3, 3], [0.0], [1e-4, 1e-4], ["a"]])
@pytest.mark.parametrize("log", [False, True])
def test_a_scale_of_one_value_is_not_empty(values: list[Any], log: bool) -> None:
    scale = Scale.of(values, log)
    assert 0 < scale.unit(values[0]) < 1
    assert scale.ticks
