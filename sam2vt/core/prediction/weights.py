"""Load weights for inference: a checkpoint, a run's best, an export or Meta's, as a model in eval mode."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from sam2vt.config import LoraConfig, ModelConfig
from sam2vt.core.model import adapters
from sam2vt.core.model.checkpoints import (
    BASE,
    find_base,
    load_weights,
    network_state,
    read_hashed,
    trained_model,
    training_config,
)
from sam2vt.core.model.execution import autocast, require_precision, resolve_device
from sam2vt.core.model.network_yaml import sizes_of, yaml_beside
from sam2vt.core.model.relatives import recognised
from sam2vt.core.model.sam2 import SAM2Model, build_from_config
from sam2vt.core.storage.fetching import expand_user, pinned
from sam2vt.core.storage.hf_folder import is_weights, weights_of
from sam2vt.core.storage.hub import HUB_PREFIX
from sam2vt.core.training.checkpoints.store import BEST, CheckpointStore
from sam2vt.errors import CheckpointError, ConfigError, first_line
from sam2vt.settings import require

log = logging.getLogger(__name__)

# Where a run has its checkpoints, where they are if that folder itself is named, and where a sweep has them.
_PLACES = ("checkpoints", "", "best")


@dataclass(frozen=True)
class Weights:
    """A model in eval mode, and the source of its weights."""

    model: SAM2Model
    path: str  # the file: a local path or a URI
    name: str  # short, for files and pictures
    digest: str  # SHA-256 of the file
    precision: str = "32-true"
    trained: ModelConfig | None = None  # its training's, at today's size and device; None: weights alone
    base: Mapping[str, str] | None = None  # of a checkpoint that holds only what trained

    @property
    def label(self) -> str:
        """The name and the beginning of the digest, which distinguishes files of the same name."""
        return f"{self.name}@{self.digest[:12]}"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast context of the precision, in which the model must be called."""
        return autocast(self.precision, self.model.pixel_mean.device.type)


class Place(NamedTuple):
    """The file of a checkpoint."""

    path: str  # local path or URI
    name: str  # short, for files and pictures
    sha256: str | None = None  # as its run's manifest has it
    config: Mapping[str, Any] | None = None  # of its training, from the same place
    score: float | None = None  # J&F of these weights, if their run was validated


def open_weights(
    checkpoint: str,
    *,
    device: str = "auto",
    config_path: str | None = None,
    image_size: int | None = None,
    base: str | None = None,
    postprocessing: str = "stock",
    precision: str = "32-true",
) -> Weights:
    """Return the model that `find_weights` finds at `checkpoint`, in eval mode, with its names.

    A training checkpoint knows its network. Files with weights only take `config_path`, else the YAML of the
    same name beside them, as `sam2vt export` writes it, else Meta's by the file's name or by its tensors.
    `image_size` replaces the size that the model was made for. `base` is the new place of the checkpoint that
    the training started from, if it was moved. `postprocessing` is that of `ModelConfig`, `precision` that of
    `TrainerConfig`. Raises ConfigError for invalid settings and a precision that the device lacks,
    CheckpointError for weights.
    """
    require(ModelConfig, "image_size", image_size)
    require_precision(precision, resolve_device(device))
    place = find_weights(checkpoint)
    content, digest = read_hashed(place.path)
    require_digest(place, digest)
    saved = training_config(content)
    if saved is not None and config_path is not None:
        text = f"is a training checkpoint and knows its network; leave {config_path} out"
        raise ConfigError(f"{checkpoint} {text}")
    how: dict[str, Any] = {"device": device, "postprocessing": postprocessing}
    trained = None
    if saved is None:
        model = _model_of_weights(place.path, content, config_path, image_size, **how)
    else:
        trained = trained_model(saved, place.path)
        trained = replace(trained, image_size=image_size or trained.image_size, **how)
        # Its low-rank adapters are merged when its weights are read.
        model = build_from_config(replace(trained, checkpoint_path=place.path, lora=LoraConfig()))
    weights = Weights(model, place.path, place.name, digest, precision, trained, content.get(BASE))
    return _loaded(weights, content, base)


def load_model(checkpoint: str, **how: Any) -> SAM2Model:
    """Return the model of `open_weights`, with the same keywords, for callers that do not use autocast."""
    return open_weights(checkpoint, **how).model


def zero_shot(weights: Weights, base: str | None = None) -> Weights:
    """Return the weights that the training of `weights` started from: the same network before any step.

    `base` is their new place, if they were moved. Raises CheckpointError if the place is unknown or empty.
    """
    place = find_start(weights.path, weights.trained, weights.base, base)
    assert weights.trained is not None
    content, digest = read_hashed(place.path)
    # An adapter is part of what trained.
    none: dict[str, Any] = {"adapter": adapters.NONE, "adapter_settings": None, "lora": LoraConfig()}
    config = replace(weights.trained, checkpoint_path=place.path, **none)
    model = build_from_config(config)
    own = replace(weights, model=model, path=place.path, name=f"zero-shot_{place.name}", digest=digest)
    return _loaded(replace(own, trained=None, base=None), content, None)


def find_start(
    path: str, trained: ModelConfig | None, named: Mapping[str, str] | None, base: str | None = None
) -> Place:
    """Return the file of the weights that the training of the checkpoint at `path` started from.

    `trained` is the configuration of the model that trained, None for weights alone. `named` is the
    checkpoint's `BASE`, if it has one, and `base` the new place of the file, if it was moved. Raises
    CheckpointError if the place is unknown or empty.
    """
    if trained is None:
        raise CheckpointError(
            f"{path}: holds weights alone, which do not say what their training started from; name that "
            f"checkpoint itself"
        )
    start = base or trained.checkpoint_path
    if named is not None:
        start = find_base({BASE: named}, path, base)
    if start is None:
        raise CheckpointError(
            f"{path}: its training started from random weights, of which there is no file; name another "
            f"checkpoint"
        )
    if "://" not in start and not Path(expand_user(weights_of(start))).is_file():
        raise CheckpointError(
            f"{path}: its training started from {start}, which is not there; give its present place "
            f"with --base"
        )
    return find_weights(start)


def require_digest(place: Place, digest: str) -> None:
    """Raise CheckpointError unless the SHA-256 of a file is the one in its run's manifest, if it has one."""
    if place.sha256 not in (None, digest):
        raise CheckpointError(
            f"{place.path}: has sha256 {digest}, its run wrote {place.sha256}; it is damaged, or was "
            f"replaced just now: try again, or name another file of that folder"
        )


def find_weights(checkpoint: str) -> Place:
    """Return the file that `checkpoint` means: itself, or the best checkpoint of a run's folder.

    `checkpoint` is a local path or a URI. A file on the hub gets the current commit of its branch. A folder
    is that of a run, of its checkpoints, of a sweep, or in the form of transformers. Raises CheckpointError,
    which says what to name.
    """
    try:
        path = pinned(checkpoint)
        if path != checkpoint or checkpoint.startswith(HUB_PREFIX):
            return Place(path, name_of(path))
        if not _is_folder(checkpoint):
            return Place(checkpoint, name_of(checkpoint))
        return _best_of(checkpoint)
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: cannot be read: {first_line(error)}") from error


def name_of(checkpoint: str) -> str:
    """Return a name for the results of a checkpoint: its own, after the name of its run if it has one."""
    path = checkpoint.rpartition("://")[2]
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..")]
    names = [PurePath(parts[-1]).stem] if parts else ["checkpoint"]
    if len(parts) > 1 and is_weights(path):  # named like its folder, or its repository without the revision
        names = [parts[-2].partition("@")[0]]
    if len(parts) > 2 and parts[-2] in _PLACES:
        names.insert(0, parts[-3])
    return re.sub(r"[^\w.+-]", "_", "_".join(names))


def _is_folder(path: str) -> bool:
    if "://" not in path:
        return Path(expand_user(path)).is_dir()
    from sam2vt.core.storage.folder import locate  # pyarrow is not needed for local files

    filesystem, inner = locate(path)
    return not filesystem.get_file_info(inner).is_file


def _best_of(folder: str) -> Place:
    from sam2vt.core.storage.folder import Folder

    root = folder.rstrip("/") if "://" in folder else str(Path(expand_user(folder)).absolute())
    files: dict[str, list[str]] = {}  # of checkpoints, by folder
    for inner in _PLACES:
        where = f"{root}/{inner}".rstrip("/")
        files[where] = [name for name in Folder(where).sizes() if name.endswith(".ckpt")]
        store = CheckpointStore(where)
        if files[where] and (best := store.best()) is not None:
            log.info("%s: %s, step %d, J&F %.3f", folder, best.file, best.step, best.score)
            return Place(store.path(best), name_of(f"{where}/{BEST}"), best.sha256, best.config, best.score)
        if BEST in files[where]:  # copied without its manifest, or a sweep's
            return Place(f"{where}/{BEST}", name_of(f"{where}/{BEST}"))
    raise CheckpointError(f"{folder}: {_why_none(root, files)}")


def _why_none(root: str, files: Mapping[str, list[str]]) -> str:
    """Return why a folder has no best checkpoint, and what to do."""
    for where, names in files.items():
        if names:
            return (
                f"this run has no best checkpoint yet: none of its {len(names)} was validated. Name one "
                f"yourself, such as {where}/{max(names)}"
            )
    local = None if "://" in root else Path(root)
    if local is not None and any((local / name).exists() for name in ("config.yaml", "checkpoints")):
        return (
            "this run has saved no checkpoint here. Wait for its first validation; if it has a save_dir of "
            "its own, name that folder"
        )
    runs = sorted(local.glob("*/checkpoints")) if local is not None else []
    hint = f", such as {runs[0].parent}" if runs else ""
    return f"holds no checkpoints, so it is no run's folder. Name a run's folder{hint}, or a checkpoint file"


def _model_of_weights(
    path: str,
    content: Mapping[str, Any],
    config_path: str | None,
    image_size: int | None,
    device: str,
    postprocessing: str,
) -> SAM2Model:
    """Return the model, without weights, of a file that does not know its network."""
    yaml = config_path or yaml_beside(path)
    if yaml is None:
        kind = recognised(network_state(content, path))
        if kind is None or kind.config_path is None:
            told = f"weights alone, those of {kind}" if kind else "weights alone"
            raise ConfigError(
                f"{path} holds {told}, without {PurePath(path).stem}.yaml beside it: name the network's YAML "
                f"with --network, such as configs/sam2.1/sam2.1_hiera_t.yaml"
            )
        log.info("%s: its tensors are those of %s", path, kind)
        yaml = kind.config_path
    made_for, num_maskmem = sizes_of(yaml)
    how: dict[str, Any] = {"device": device, "image_size": image_size or made_for, "num_maskmem": num_maskmem}
    return SAM2Model(path, yaml, postprocessing=postprocessing, **how)


def _loaded(weights: Weights, content: Mapping[str, Any], base: str | None) -> Weights:
    """Fill the model with the weights of a checkpoint's content, whatever its training started from."""
    weights.model.trainable_modules = None  # nothing trains here
    weights.model.load(weights=False)
    load_weights(weights.model.network, weights.path, base, content)
    weights.model.eval()
    return weights
