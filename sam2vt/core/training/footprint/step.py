"""Measure the peak memory of a training step by running it on tensors without content.

PyTorch's fake tensors have shapes and storages but no data. A step of the real code, including backward
and the optimizer, takes seconds and no memory, whatever the size of the network. Every storage is counted
from its first use to its end.
"""

from __future__ import annotations

import logging
import math
import weakref
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.core.model.execution import autocast
from sam2vt.core.model.sam2 import SAM2Model, build_from_config
from sam2vt.core.model.speedups.heap import keeps_freed_memory
from sam2vt.core.training.loss import SAM2TrainingLoss, batch_loss
from sam2vt.core.training.loss_terms.mask_sums import PIXELS_AT_ONCE
from sam2vt.core.training.optim import build_optimizer, freeze_unreached_heads

MAX_MMAP_THRESHOLD = 32 << 20  # glibc's DEFAULT_MMAP_THRESHOLD_MAX
ALIGNMENT = 64  # of PyTorch's tensors
# glibc before 2.38 searches for an aligned block with this much to spare, so that a freed block never fits
# one of its own size.
TO_SPARE = 2 * ALIGNMENT


@dataclass(frozen=True)
class StepFootprint:
    """Bytes at the peak of a training step."""

    weights: int
    gradients: int
    optimizer: int
    batch: int
    activations: int  # what backward needs, and what operations take while they run
    average: int = 0  # of the weights that train
    frame_features: int = 0  # of a frame in the feature cache, on disk


def simulate_step(config: Config, device: str) -> StepFootprint:
    """Return the footprint of a step of `config` with full batches, on "cpu" or "cuda".

    Without a GPU, "cuda" is simulated with the CPU's operations, the loss in pieces of a GPU's size, and
    attention without the whole matrix, as on a GPU. Weights are not read.
    """
    with _without_its_table():
        model = build_from_config(config.model).load("cpu", weights=False)
    freeze_unreached_heads(model, config.loss)
    if device == "cuda":
        _attend_as_a_gpu(model)
    on = device if torch.cuda.is_available() else "cpu"
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, loss_in_pieces_of(device):
        _make_fake(model, fake, on)
        batch = _full_batch(config, model, on)
        optimizer = build_optimizer(model.network, config.optimizer)
        keeps = config.model.speedups == "auto" and keeps_freed_memory()
        live = LiveBytes([*model.parameters(), *model.buffers(), *tree_leaves(batch)], Heap(keeps))
        criterion = SAM2TrainingLoss(**to_dict(config.loss))
        with live:
            # First the optimizer's state, so that the peak includes it. On a CPU by a whole step: what a
            # process grows to depends on where freed blocks are.
            if device == "cpu":
                _step(model.train(), criterion, optimizer, batch, config, on)
            else:
                _allocate_state(optimizer)
            _step(model.train(), criterion, optimizer, batch, config, on)
    peak = live.heap.peak if device == "cpu" else live.peak
    state = sum(_bytes(value) for value in tree_leaves(optimizer.state_dict()["state"]))
    gradients = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    return StepFootprint(
        weights=sum(_bytes(p) for p in model.parameters()),
        gradients=gradients,
        optimizer=state,
        batch=sum(_bytes(leaf) for leaf in tree_leaves(batch)),
        activations=max(0, peak - state - gradients),
        # A copy of what trains, made once and moved in place.
        average=gradients if config.model.ema.decay is not None else 0,
        frame_features=sum(2 * math.prod(shape) for shape in _cached_shapes(config, model)),
    )


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all live storages except those of `known` tensors.

    `peak` is their highest sum, `heap.peak` the size to which they make a process on Linux grow. Reading a
    value, as checks of user input do, gives 1 or True.
    """

    def __init__(self, known: list[Any], heap: Heap | None = None) -> None:
        super().__init__()
        self.now, self.peak, self.heap = 0, 0, heap or Heap()
        self._held = [each.untyped_storage() for each in known if isinstance(each, Tensor)]
        self._alive: dict[int, tuple[int, tuple[int, int]]] = {
            id(storage): (0, (0, 0)) for storage in self._held
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        place = id(storage)
        if place in self._alive:
            return
        size = storage.nbytes()
        self._alive[place] = size, self.heap.allocate(size)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, place)

    def _forget(self, place: int) -> None:
        size, block = self._alive.pop(place)
        self.now -= size
        self.heap.release(block)


class Heap:
    """A model of glibc's heap on Linux: how far a process grows as it allocates and frees.

    A freed block stays with the process and is reused if a new one fits, so a process takes more than its
    live tensors. Addresses are chosen by best fit; freed neighbours are joined, and a free top is returned.
    Blocks above a threshold are mapped outside the heap and returned at once; freeing one raises the
    threshold to its size, at most to 32 MiB. If it `keeps` memory, none is mapped outside and none returned.
    `peak` is the highest sum of both, in bytes.
    """

    def __init__(self, keeps: bool = False) -> None:
        self.peak = 0
        self._keeps = keeps
        self._top = 0
        self._mapped = 0
        self._threshold = 128 << 10
        self._free: dict[int, int] = {}  # start -> end
        self._free_ends: dict[int, int] = {}  # end -> start
        self._sizes: list[tuple[int, int]] = []  # (size, start) of the free blocks, in order

    def allocate(self, size: int) -> tuple[int, int]:
        """Return (start, end) of a new block; start is -1 outside the heap."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        if size >= self._threshold and not self._keeps:
            self._mapped += size
            block = (-1, size)
        else:
            block = self._place(size)
        self.peak = max(self.peak, self._top + self._mapped)
        return block

    def release(self, block: tuple[int, int]) -> None:
        """Free a block."""
        start, end = block
        if start < 0:
            self._mapped -= end
            if end <= MAX_MMAP_THRESHOLD:
                self._threshold = max(self._threshold, end)
            return
        if start in self._free_ends:
            start = self._take(self._free_ends[start])[0]
        if end in self._free:
            end = self._take(end)[1]
        if end == self._top and end - start > 2 * self._threshold and not self._keeps:
            self._top = start
        elif end > start:
            self._keep(start, end)

    def _place(self, size: int) -> tuple[int, int]:
        fitting = bisect_left(self._sizes, (size + TO_SPARE, 0))
        if fitting < len(self._sizes):
            start, end = self._take(self._sizes[fitting][1])
            if end - start > size:
                self._keep(start + size, end)
            return start, start + size
        start = self._top
        if start in self._free_ends:  # the top grows from a free block at its end
            start = self._take(self._free_ends[start])[0]
        self._top = start + size
        return start, self._top

    def _take(self, start: int) -> tuple[int, int]:
        end = self._free.pop(start)
        del self._free_ends[end]
        del self._sizes[bisect_left(self._sizes, (end - start, start))]
        return start, end

    def _keep(self, start: int, end: int) -> None:
        self._free[start] = end
        self._free_ends[end] = start
        insort(self._sizes, (end - start, start))


def _step(
    model: SAM2Model,
    criterion: SAM2TrainingLoss,
    optimizer: Optimizer,
    batch: dict[str, Any],
    config: Config,
    device: str,
) -> None:
    """Forward, loss, backward, clipping and update, as Lightning runs them."""
    with autocast(config.trainer.precision, device):
        loss, *_ = batch_loss(model, criterion, batch)
    loss.backward()
    if config.trainer.gradient_clip_val:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, config.trainer.gradient_clip_val)
    optimizer.step()
    optimizer.zero_grad()


def _allocate_state(optimizer: Optimizer) -> None:
    """Update once by gradients of zeros."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _cached_shapes(config: Config, model: SAM2Model) -> list[tuple[int, int, int]]:
    """Shapes of a frame's features, where they are read instead of its image."""
    return model.kept_shapes if config.dataset.feature_cache else []


def _full_batch(config: Config, model: SAM2Model, device: str) -> dict[str, Any]:
    """Clips with the largest number of objects, each prompted on the first frame."""
    b, t, n = config.dataset.batch_size, config.dataset.video_clip_length, config.max_objects
    size = config.model.image_size
    kinds = config.dataset.prompt_types
    by_points = config.model.num_correction_clicks > 0 or "mask" not in kinds
    by_points = by_points and set(kinds) != {"mask"}
    prompts = [[_prompt(slot, by_points, size, device) for slot in range(n)] for _ in range(b)]
    features = [
        torch.zeros(b, t, *shape, dtype=torch.bfloat16, device=device)
        for shape in _cached_shapes(config, model)
    ]
    images = torch.zeros(b, t, 3, size, size, dtype=torch.uint8, device=device)
    return {
        **({"features": features} if features else {"images": images}),
        "masks": torch.zeros(b, t, n, size, size, dtype=torch.bool, device=device),
        "valid_masks": torch.ones(b, t, n, dtype=torch.bool, device=device),
        "prompts": prompts,
    }


def _prompt(slot: int, by_points: bool, size: int, device: str) -> dict[str, Any]:
    where = {"object_index": slot, "frame_index": 0}
    if not by_points:
        return {"type": "mask", "mask": torch.zeros(size, size, dtype=torch.bool, device=device), **where}
    return {
        "type": "point",
        "point_coords": torch.zeros(1, 2, device=device),
        "point_labels": torch.ones(1, dtype=torch.int32, device=device),
        **where,
    }


def _make_fake(model: nn.Module, fake: FakeTensorMode, device: str) -> None:
    """Parameters and buffers without content, instead of the real ones."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                data = fake.from_tensor(parameter.data).to(device)
                module._parameters[name] = nn.Parameter(data, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake.from_tensor(buffer).to(device)


@contextmanager
def _without_its_table() -> Iterator[None]:
    """Within this block, do not log what trains: the network is built once per setting that is tried."""
    log = logging.getLogger("sam2vt.core.model")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _attend_as_a_gpu(model: SAM2Model) -> None:
    """Attend without dropout, with which a CPU holds the whole matrix, and with windows that are padded."""
    for module in model.modules():
        if "dropout_p" in vars(module):
            vars(module)["dropout_p"] = 0.0
        if hasattr(module, "devices"):
            vars(module)["devices"] = ()


@contextmanager
def loss_in_pieces_of(device: str) -> Iterator[None]:
    """In this block, the loss on a CPU uses the pieces that it has on `device`, "cpu" or "cuda"."""
    before = dict(PIXELS_AT_ONCE)
    try:
        PIXELS_AT_ONCE["cpu"] = before[device]
        yield
    finally:
        PIXELS_AT_ONCE.update(before)


def _bytes(value: Any) -> int:
    return value.untyped_storage().nbytes() if isinstance(value, Tensor) else 0
