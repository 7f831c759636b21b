"""Reading checkpoints: Meta's, ours, from a local path, a URI or the Hugging Face hub."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam2vt.errors import CheckpointError

log = logging.getLogger(__name__)

HUB_PREFIX = "hf://"
# A Lightning checkpoint holds the network under these names.
TRAINING_PREFIX = "model.network."


def read_checkpoint(path: str) -> dict[str, Any]:
    """Load a checkpoint file of plain tensors and containers (`weights_only=True`), on the CPU.

    `path` is a local path, a URI that pyarrow.fs reads (s3://, gs://, file://), or
    hf://<owner>/<repository>[/<file>]. Raises `CheckpointError`.
    """
    with _local_copy(path) as local:
        try:
            content = torch.load(local, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{path}: not a checkpoint of plain tensors; it holds Python objects that could run code "
                f"when loaded, or is no checkpoint at all. Save it again with torch.save of a state_dict."
            ) from error
        except (RuntimeError, EOFError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path}: cannot be read as a PyTorch checkpoint; it may be cut off or another kind of "
                f"file. ({_first_line(error)})"
            ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; a mapping of tensors is needed")
    return dict(content)


def expand_user(path: str) -> str:
    """A local path with its ~ replaced; a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser())


def network_state(content: Mapping[str, Any], path: str) -> dict[str, torch.Tensor]:
    """The network's own tensors in Meta's ({"model": ...}), Lightning's or a bare state dict's layout."""
    state = content.get("model", content.get("state_dict", content))
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: key 'model' holds a {type(state).__name__}, not tensors by name")
    if any(name.startswith(TRAINING_PREFIX) for name in state):
        state = {
            name.removeprefix(TRAINING_PREFIX): value
            for name, value in state.items()
            if name.startswith(TRAINING_PREFIX)
        }
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; its keys are {', '.join(map(str, content))[:200]}")
    return tensors


def load_weights(network: nn.Module, path: str) -> None:
    """Load a checkpoint into the network strictly, or raise a `CheckpointError` that lists what differs."""
    state = network_state(read_checkpoint(path), path)
    own = network.state_dict()
    _fit_memory_positions(state, own)
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"unknown {name}" for name in state if name not in own]
    faults += [
        f"{name} is {tuple(state[name].shape)}, the model's is {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{path}: {len(broken)} tensors hold NaN or infinity, such as {broken[0]}: the training that "
            f"wrote it diverged; take an earlier checkpoint"
        )
    if faults:
        raise CheckpointError(
            f"{path}: does not fit the model of model.config_path ({len(faults)} differences; is it of "
            f"another model size?): {'; '.join(faults[:5])}{' ...' if len(faults) > 5 else ''}"
        )
    network.load_state_dict(state, strict=True)


def _fit_memory_positions(state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    """Shorten the memory's position codes to a smaller `num_maskmem`.

    Row i is for the frame i + 1 frames back and the last row for conditioning frames, so a shorter
    memory keeps the first rows and the last.
    """
    name = "maskmem_tpos_enc"
    if name in state and name in own and 0 < own[name].shape[0] < state[name].shape[0]:
        rows = own[name].shape[0]
        log.info("memory of %d frames: keeping %d of the checkpoint's position codes", rows, rows)
        state[name] = torch.cat([state[name][: rows - 1], state[name][-1:]])


class _local_copy:
    """A context in which `path` is a local file; a remote one is read into a temporary file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.temporary: Any = None

    def __enter__(self) -> str:
        if self.path.startswith(HUB_PREFIX):
            return _download_from_hub(self.path)
        if "://" in self.path:
            return self._download()
        path = Path(expand_user(self.path))
        if path.is_dir():
            raise CheckpointError(f"{self.path}: is a folder; name the checkpoint file in it")
        if not path.is_file():
            raise CheckpointError(f"{self.path}: no such checkpoint file")
        return str(path)

    def __exit__(self, *exception: object) -> None:
        if self.temporary is not None:
            self.temporary.cleanup()

    def _download(self) -> str:
        import tempfile

        from pyarrow import fs

        self.temporary = tempfile.TemporaryDirectory(prefix="sam2vt-checkpoint-")
        target = Path(self.temporary.name) / "checkpoint"
        try:
            filesystem, inner = fs.FileSystem.from_uri(self.path)
            with filesystem.open_input_stream(inner) as source, target.open("wb") as sink:
                while chunk := source.read(1 << 22):
                    sink.write(chunk)
        except (OSError, ValueError) as error:
            self.temporary.cleanup()
            raise CheckpointError(f"{self.path}: cannot be read: {_first_line(error)}") from error
        return str(target)


def _download_from_hub(path: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise CheckpointError(f"{path}: `pip install 'sam2vt[hub]'` to read from the hub") from error
    parts = path.removeprefix(HUB_PREFIX).split("/", 2)
    if len(parts) < 2:
        raise CheckpointError(
            f"{path}: write hf://<owner>/<repository>, such as hf://facebook/sam2.1-hiera-tiny"
        )
    owner, repository = parts[:2]
    file = parts[2] if len(parts) > 2 else f"{repository.replace('-', '_')}.pt"
    try:
        return hf_hub_download(f"{owner}/{repository}", file)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be fetched from the hub: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
