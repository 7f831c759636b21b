"""Training on a pack, and on sets of a mixture, is training on what they were made of."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.writing.pack import pack
from sam2vt.train import train


def weights_after(config: Config, folder: Path, **data: object) -> dict[str, torch.Tensor]:
    config = copy.deepcopy(config)
    config.output_dir = str(folder)
    config.trainer.max_epochs, config.trainer.limit_val_batches = 1, 0
    config.trainer.num_overlay_videos = 0
    for name, value in data.items():
        setattr(config.dataset, name, value)
    return train(config).lightning_module.state_dict()


@pytest.fixture(scope="module")
def packed(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("packed") / "pack")
    pack(load_records("auto", tiny_config.dataset.data_path), folder, workers=1)
    return folder


def test_a_pack_trains_as_its_source(tiny_config: Config, packed: str, tmp_path: Path) -> None:
    source = weights_after(tiny_config, tmp_path / "source")
    again = weights_after(tiny_config, tmp_path / "pack", data_path=packed)
    mixed = weights_after(tiny_config, tmp_path / "mixed", data_path="", datasets=[{"data_path": packed}])
    assert source.keys() == again.keys() == mixed.keys()
    for name, weight in source.items():
        assert torch.equal(weight, again[name]), name
        assert torch.equal(weight, mixed[name]), name
