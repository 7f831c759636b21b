"""The nano network, random but seeded, and clips of random textures with moving discs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.types import Prompt

NANO = str(Path(__file__).resolve().parents[4] / "configs" / "network" / "sam2.1_nano.yaml")
SIZE = 128


def nano_model(seed: int = 0, **kwargs) -> SAM2Model:
    torch.manual_seed(seed)
    options = {"trainable_modules": ["*"], **kwargs}
    return SAM2Model(None, NANO, device="cpu", image_size=SIZE, **options).load()


def make_clips(num_clips: int, num_frames: int, num_objects: int, seed: int = 0):
    """Images uint8 [B,T,3,H,W] and masks bool [B,T,N,H,W] of discs that move."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 255, (num_clips, num_frames, 3, SIZE, SIZE), generator=generator).byte()
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"))
    start = torch.randint(30, 90, (num_clips, 1, num_objects, 2), generator=generator)
    step = torch.randint(-4, 5, (num_clips, 1, num_objects, 2), generator=generator)
    times = torch.arange(num_frames).view(1, -1, 1, 1)
    centres = start + step * times
    distance = (grid - centres[..., None, None]).pow(2).sum(dim=3)
    return images, distance < 18**2


def prompt(kind: str, mask: torch.Tensor, object_index: int, frame_index: int = 0) -> Prompt:
    """A prompt of a [H, W] mask: its centre, its box, or itself."""
    given = Prompt(type=kind, object_index=object_index, frame_index=frame_index)
    if kind == "mask":
        given["mask"] = mask
        return given
    ys, xs = torch.nonzero(mask, as_tuple=True)
    if kind == "point":
        coords, labels = [[xs.float().mean(), ys.float().mean()]], [1]
    elif kind == "two points":
        given["type"] = "point"
        coords, labels = [[xs.float().mean(), ys.float().mean()], [2.0, 3.0]], [1, 0]
    else:
        coords, labels = [[xs.min(), ys.min()], [xs.max(), ys.max()]], [2, 3]
    given["point_coords"] = torch.tensor(coords, dtype=torch.float32)
    given["point_labels"] = torch.tensor(labels, dtype=torch.int32)
    return given


class Kept:
    """The bytes that autograd keeps for backward, weights and shared storages counted once at most."""

    def __init__(self, model: SAM2Model) -> None:
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.storages: dict[int, torch.UntypedStorage] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.storages[storage.data_ptr()] = storage  # held, so that its place is not given anew
        return tensor

    @property
    def num_bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def centre_clicks(masks: torch.Tensor, predictions: torch.Tensor | None):
    from sam2.modeling.sam2_utils import get_next_point

    return get_next_point(masks, predictions, "center")


@pytest.fixture
def nano() -> SAM2Model:
    return nano_model()
