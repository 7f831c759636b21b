"""Small videos whose frames tell their index by their brightness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ..model.conftest import NANO, SIZE

__all__ = ["SIZE"]
HEIGHT, WIDTH = 48, 64
STEP = 20  # of the brightness, from one frame to the next


def painted(index: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.full((*size, 3), STEP * index % 256, np.uint8)


@pytest.fixture
def video() -> Callable[..., Path]:
    """Writes a video file, by its ending or the container that is named."""

    def write(
        path: Path,
        num_frames: int = 6,
        container: str | None = None,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        codec: str = "libx264",
        options: dict[str, str] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", format=container, options=options) as file:
            stream = file.add_stream(codec, rate=10)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            for index in range(num_frames):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(painted(index, size), format="rgb24")))
            file.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def frames() -> Callable[..., Path]:
    """Writes a folder of frames."""

    def write(folder: Path, names: list[str] | int = 6, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(
            [f"{i:05d}.png" for i in range(names)] if isinstance(names, int) else names
        ):
            Image.fromarray(painted(index, size)).save(folder / name)
        return folder

    return write


def indices_of(found: list[tuple[int, np.ndarray]]) -> list[tuple[int, int]]:
    """Return (index, the index that the brightness tells) of frames."""
    return [(index, round(float(frame.mean()) / STEP)) for index, frame in found]


def in_step(numbers: range) -> list[tuple[int, int]]:
    return [(number, number) for number in numbers]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the nano network, with objects that are always there, beside its YAML."""
    import torch

    from sam2vt.core.model.sam2 import SAM2Model

    torch.manual_seed(3)
    model = SAM2Model(None, NANO, device="cpu", image_size=SIZE).load().eval()
    torch.nn.init.constant_(model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    path = tmp_path_factory.mktemp("weights") / "nano.pt"
    torch.save({"model": model.network.state_dict()}, path)
    path.with_suffix(".yaml").write_text(Path(NANO).read_text())
    return path
