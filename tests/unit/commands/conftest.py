"""A dataset, a checkpoint, and how a verb ends, for the tests of the verbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sam2vt import cli
from sam2vt.configuration.loading import from_dict, to_dict


@pytest.fixture
def exit_code() -> Callable[..., int]:
    """Run the command line, and return the code that it ends with."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    cli.main(["sample-data", str(folder), "--videos", "1", "--frames", "12"])
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint of an untrained nano model that takes every object for present."""
    import torch

    from sam2vt.core.model.sam2 import build_from_config

    config = from_dict({"model": {"config_path": "network/sam2.1_nano.yaml", "image_size": 64}})
    torch.manual_seed(0)
    network = build_from_config(config.model).load("cpu").network
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(100.0)
    content = {
        "state_dict": {f"model.network.{name}": value for name, value in network.state_dict().items()},
        "hyper_parameters": {"config": to_dict(config)},
    }
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save(content, path)
    return path
