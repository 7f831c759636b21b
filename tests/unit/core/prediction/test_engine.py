"""What becomes of logits: options that mean nothing are refused."""

from __future__ import annotations

import pytest

from sam2vt.core.prediction.engine import MaskOptions
from sam2vt.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"fill_holes": -1}, "fill_holes=-1: allowed are whole numbers"),
        ({"min_area": 2.5}, "min_area=2.5: allowed are whole numbers"),
        ({"min_area": True}, "min_area=True"),
        ({"presence": 1.5}, "presence=1.5: allowed are probabilities"),
        ({"presence": float("nan")}, "presence=nan"),
        ({"overlaps": "mix"}, "overlaps=mix: allowed are resolve, keep"),
        ({"fill_holes": -1, "presence": -0.1, "resize": "cubic"}, "3 faults"),
    ],
)
def test_values_that_mean_nothing(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MaskOptions(**fields)
