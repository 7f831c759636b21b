"""Read checkpoints, Meta's and ours, and load them into the network."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam2vt.config import ModelConfig
from sam2vt.configuration.loading import from_dict
from sam2vt.core.model.adapter_file import read_adapter
from sam2vt.core.model.hf.weights import read_weights
from sam2vt.core.model.lora import is_adapter, merged
from sam2vt.core.model.relatives import recognised
from sam2vt.core.model.trainable import plain_name
from sam2vt.core.storage.disk import ADAPTER
from sam2vt.core.storage.fetching import (
    checkpoint_sha256,
    expand_user,
    local_copy,
)
from sam2vt.core.storage.hf_folder import CONFIG, is_weights, weights_of
from sam2vt.core.storage.hub import HUB_PREFIX
from sam2vt.errors import CheckpointError, ConfigError, first_line

log = logging.getLogger(__name__)

# Lightning names the network's tensors by their place in SAM2LightningModule.
TRAINING_PREFIX = "model.network."
_OF_POINTERS = ("obj_ptr", "no_obj_ptr", "mask_downsample")  # tensors of SAM 2's object pointers
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def read_checkpoint(path: str, mapped: bool = False) -> dict[str, Any]:
    """Load a checkpoint file of plain tensors and containers (`weights_only=True`), on the CPU.

    `path` is a local path, a URI that pyarrow.fs reads (s3://, gs://, file://), or
    hf://<owner>/<repository>[@<revision>][/<file>]. Tensors in transformers' form get SAM 2's names, and an
    adapter file is read as a checkpoint. With `mapped`, the values of tensors are not read before they are
    used, if the file stays on this machine. Raises `CheckpointError`.
    """
    with local_copy(path) as local:
        stays = "://" not in path or path.startswith(HUB_PREFIX)
        return _read(local, path, mapped and stays)


def read_hashed(path: str) -> tuple[dict[str, Any], str]:
    """Return the result of `read_checkpoint` and the SHA-256 of the file, without downloading it twice."""
    with local_copy(path) as local:
        return _read(local, path), checkpoint_sha256(local)


def _read(local: str, path: str, mapped: bool = False) -> dict[str, Any]:
    if is_weights(local):
        return {"model": read_weights(Path(local), path)}
    if path.endswith(ADAPTER):
        return read_adapter(local, path)
    try:
        # PyTorch's format before 1.6 is no zip file, and cannot be mapped.
        mapped = mapped and zipfile.is_zipfile(local)
        content = torch.load(local, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of plain tensors; it holds Python objects that could run code "
            f"when loaded, or is no checkpoint at all. Save it again with torch.save of a state_dict."
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a PyTorch checkpoint; it may be cut off or another kind of "
            f"file. ({first_line(error)})"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; a mapping of tensors is needed")
    return dict(content)


def network_state(content: Mapping[str, Any], path: str) -> dict[str, torch.Tensor]:
    """Return the network's tensors in Meta's layout ({"model": ...}), Lightning's or a bare state dict's."""
    found = content.get("model", content.get("state_dict", content))
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: key 'model' holds a {type(found).__name__}, not tensors by name")
    state = {name: value for name, value in found.items() if isinstance(name, str)}
    if any(name.startswith(TRAINING_PREFIX) for name in state):
        state = {
            name.removeprefix(TRAINING_PREFIX): value
            for name, value in state.items()
            if name.startswith(TRAINING_PREFIX)
        }
    tensors = {plain_name(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; its keys are {', '.join(map(str, content))[:200]}")
    return tensors


def training_config(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the configuration in a training checkpoint; None for weights alone."""
    known = content.get("hyper_parameters")
    config = known.get("config") if isinstance(known, Mapping) else None
    return config if isinstance(config, Mapping) and isinstance(config.get("model"), Mapping) else None


def trained_model(config: Mapping[str, Any], path: str) -> ModelConfig:
    """Return the settings of the model in `training_config` of the checkpoint at `path`.

    Raises CheckpointError for a configuration that this version cannot read.
    """
    try:
        return from_dict(config).model
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: its configuration cannot be read: {'; '.join(error.faults)}. Use the version of sam2vt "
            f"that wrote it"
        ) from error


def whole_state(
    path: str,
    base: str | None = None,
    names: Container[str] | None = None,
    content: Mapping[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """Return the network's tensors of a checkpoint, completed from its base (at `base` if given).

    Names are the stored ones. With `names`, those of the network's own tensors, they are those of
    `unwrapped`. `content` is that of the file, if it was read before. Adapters are merged into the weights.
    """
    content = read_checkpoint(path) if content is None else content
    own, where = network_state(content, path), find_base(content, path, base)
    own = own if names is None else unwrapped(own, names, path)
    state = own if where is None else {**whole_state(where, names=names), **own}
    config = training_config(content) if any(map(is_adapter, state)) else None
    return merged(state, None if config is None else vars(trained_model(config, path).lora), path)


def unwrapped(state: dict[str, torch.Tensor], names: Container[str], path: str) -> dict[str, torch.Tensor]:
    """Return the tensors without wrappers in their names, if each is then one of `names`.

    The wrappers are those of DDP, torch.compile, FSDP and activation checkpointing, anywhere in a name, and
    any modules around the network, at its front. Raises CheckpointError if some tensors lack them.
    """

    def fits(name: str) -> bool:
        return name in names or name.startswith(_OF_POINTERS) or is_adapter(name)

    if all(map(fits, state)):
        return state
    inner = {name: ".".join(p for p in name.split(".") if p not in _WRAPPERS) for name in state}
    fronts = Counter(front for name in inner.values() for front in _fronts(name) if fits(name[len(front) :]))
    front = fronts.most_common(1)[0][0] if fronts else ""
    found = {name: new[len(front) :] for name, new in inner.items() if new.startswith(front)}
    times = Counter(found.values())
    left_out = sorted({part for name in state for part in name.split(".")} & _WRAPPERS)
    shown = ", ".join([*left_out, *([front] if front else [])])
    if not fronts or not shown:
        return state
    # What has the front and still is no name of the model's may be another model's, which the caller says.
    rest = [name for name in state if (new := found.get(name)) in (None, name) and not fits(new or "")]
    rest += [name for name in found if times[found[name]] > 1]
    if rest:
        raise CheckpointError(
            f"{path}: its tensors have the model's names with {shown} added, but {len(rest)} of {len(state)} "
            f"have not, or twice: {', '.join(rest[:3])}{' ...' * (len(rest) > 3)}; save it without them"
        )
    log.info("%s: the names of its tensors are read without %s", path, shown)
    return {found[name]: value for name, value in state.items()}


def _fronts(name: str) -> Iterator[str]:
    """Yield what could be put before a name, the shortest first, which is nothing."""
    parts = name.split(".")
    return ("".join(f"{part}." for part in parts[:place]) for place in range(len(parts)))


def load_weights(
    network: nn.Module, path: str, base: str | None = None, content: Mapping[str, Any] | None = None
) -> None:
    """Load a checkpoint into the network strictly. Raises CheckpointError, which lists what differs.

    The checkpoint's adapters are merged into its weights; those of the network stay as they are. `base` is
    the new place of the checkpoint's base, if it was moved; `content` is that of the file, if it was read
    before.
    """
    known = network.state_dict()
    own = {plain_name(name): value for name, value in known.items() if not is_adapter(name)}
    state = whole_state(path, base, own, content)
    # Before the comparison: a shorter memory is no fault, nor are object pointers that are switched off.
    _fit_memory_positions(state, own)
    for name in [name for name in state if name.startswith(_OF_POINTERS) and name not in own]:
        log.info("%s: left out, the network has no such object pointers", name)
        del state[name]
    kinds = (
        [f"missing {name}" for name in own if name not in state],
        [f"unknown {name}" for name in state if name not in own],
        [
            f"{name} is {tuple(state[name].shape)}, the model's is {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    )
    for name in (name for name in own if name in state):
        value = state[name]
        if value.layout != torch.strided or value.is_floating_point() != own[name].is_floating_point():
            raise CheckpointError(
                f"{path}: {name} is a {value.dtype} tensor ({value.layout}); needed are dense tensors of "
                f"floating-point numbers: save the weights as they were before they were quantised or packed"
            )
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{path}: {len(broken)} tensors hold NaN or infinity, such as {broken[0]}: the training that "
            f"wrote it diverged; take an earlier checkpoint"
        )
    if number := sum(map(len, kinds)):
        # Some of each kind: all names may differ by a prefix.
        shown = [fault for faults in kinds for fault in faults[:2]]
        file = weights_of(path)
        is_folder = "://" not in file and is_weights(file)
        own_yaml = f"; its own is {Path(file).with_name(CONFIG)}" if is_folder else ""
        kind = recognised(state)
        told = f"its tensors are those of {kind}" if kind else "is it of another model size?"
        raise CheckpointError(
            f"{path}: does not fit the model of model.config_path ({number} differences; {told}"
            f"{own_yaml}): {'; '.join(shown)}{' ...' if number > len(shown) else ''}"
        )
    new = {name: value if is_adapter(name) else state[plain_name(name)] for name, value in known.items()}
    network.load_state_dict(new, strict=True)


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


BASE = "base"  # its key in a checkpoint: {"path": ..., "sha256": ...}


def describe_base(path: str) -> dict[str, str]:
    """Return how a checkpoint names its base: its place, absolute if local, and its SHA-256."""
    where = path if "://" in path else str(Path(expand_user(weights_of(path))).absolute())
    return {"path": where, "sha256": checkpoint_sha256(where)}


def find_base(content: Mapping[str, Any], path: str, base: str | None = None) -> str | None:
    """Return the place of the base of the checkpoint `content`, read from `path`; None if it has none.

    It is `base` if that is given, else the place that the checkpoint names, else the same name beside the
    checkpoint. Raises CheckpointError if no file is there, or another one.
    """
    named = content.get(BASE)
    if named is None:
        return None
    if not isinstance(named, Mapping) or not all(isinstance(named.get(n), str) for n in ("path", "sha256")):
        raise CheckpointError(
            f"{path}: {BASE!r} in it must be the path and sha256 of the weights that it started from; it is "
            f"damaged, or sam2vt did not write it"
        )
    remedy = (
        "Give its place with model.checkpoint_path=... (train) or --base (evaluate, export), or put it "
        "beside the checkpoint"
    )
    base = weights_of(base) if base else None
    found = _first_that_exists([base] if base else [named["path"], _beside(path, named["path"])])
    if found is None:
        raise CheckpointError(
            f"{path}: holds only what trained, the rest is in {named['path']}, but {base or named['path']} "
            f"does not exist. {remedy}"
        )
    digest = checkpoint_sha256(found)
    if digest != named["sha256"]:
        raise CheckpointError(
            f"{path}: holds only what trained, the rest is in {named['path']} with sha256 {named['sha256']}; "
            f"{found} is another file, its sha256 is {digest}. {remedy}"
        )
    return found


def _beside(path: str, named: str) -> str:
    """Return the base's file name in the checkpoint's own folder."""
    folder = path if "://" in path else expand_user(path)
    return f"{folder.rpartition('/')[0] or '.'}/{named.rpartition('/')[2]}"


def _first_that_exists(places: list[str]) -> str | None:
    """Return the first place with a file; a URI counts as one, since reading it tells what is wrong."""
    return next((p for p in places if "://" in p or Path(expand_user(p)).is_file()), None)
