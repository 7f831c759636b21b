from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.device import resolve_device
from sam2vt.errors import ConfigError


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_an_unknown_or_absent_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="warp9"):
        resolve_device("warp9")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            resolve_device("cuda")
