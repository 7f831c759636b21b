from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sam2vt.composing import compose_config
from sam2vt.configuration.sweep import Sweep, load_sweep


@pytest.fixture
def sweep_of(tmp_path: Path) -> Callable[..., Sweep]:
    """A sweep over the learning rate and the weight of dice, in a folder of its own."""

    def make(*overrides: str) -> Sweep:
        data = tmp_path / "videos"
        data.mkdir(exist_ok=True)
        places = [f"dataset.data_path='{data}'", f"output_dir='{tmp_path / 'sweep'}'"]
        return load_sweep(compose_config(["experiment=demo", "sweep=demo", *places, *overrides]))

    return make
