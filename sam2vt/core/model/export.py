"""Export a checkpoint as weights and a YAML that stock SAM 2 loads strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sam2vt.core.model import adapters, build
from sam2vt.core.model.checkpoints import load_weights, read_checkpoint, training_config
from sam2vt.core.model.network_yaml import sizes_of, yaml_beside
from sam2vt.core.model.sam2 import architecture_of
from sam2vt.core.storage.disk import new_folder, write_whole
from sam2vt.errors import CheckpointError

Write = Callable[[Mapping[str, Tensor], DictConfig], None]


@dataclass(frozen=True)
class Source:
    """A checkpoint to export, whose weights are not read yet."""

    path: str
    network: DictConfig  # as `network_config` returns it
    adapter: str = adapters.NONE
    adapter_settings: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None  # where the weights that it started from are now, if they were moved
    content: Mapping[str, Any] | None = field(default=None, repr=False)  # if the file was read before

    def read(self) -> nn.Module:
        """Return the network with the checkpoint's weights, an adapter merged into them.

        Raises CheckpointError for weights that do not fit, and for an adapter that cannot be merged.
        """
        network = build.build_network(self.network)
        # Its names have to be there before the weights, which hold the adapter's too.
        adapters.adapt(network, self.adapter, self.adapter_settings)
        load_weights(network, self.path, self.base, self.content)
        adapters.merge(network, self.adapter, self.path)
        return network


def export_checkpoint(training_checkpoint: str | Path, out: str | Path, *, base: str | None = None) -> Path:
    """Write the network's weights to `out` and its YAML beside it; return the YAML's path.

    Both load with SAM 2's own `build_sam2("//<absolute path>.yaml", str(out))` and
    `build_sam2_video_predictor`. An adapter is merged into the weights. `base` is the place of the
    checkpoint that the training started from, if it was moved.

    Raises CheckpointError for a file that does not know its network, for an adapter that cannot be merged,
    and for an `out` that cannot be written or would destroy the checkpoint.
    """
    with exporting(out, training_checkpoint) as write:
        source = find_source(str(training_checkpoint), base=base)
        write(source.read().state_dict(), source.network)
    return Path(out).with_suffix(".yaml")


def find_source(
    path: str,
    *,
    base: str | None = None,
    config: Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> Source:
    """Return a training checkpoint, or weights with their network's YAML beside them, to be exported.

    Its weights are not read yet, if the file is on this machine. `config` is that of its training, if it is
    known; then not even the file is opened. `image_size` replaces the size that it was made for. Raises
    CheckpointError for a file that does not know its network.
    """
    content = None
    if config is None:
        content = read_checkpoint(path, mapped=True)
        config = training_config(content)
    if config is not None:
        model = config["model"]
        size = image_size or model["image_size"]
        network = build.network_config(model["config_path"], size, architecture_of(model))
        adapter = (model.get("adapter", adapters.NONE), model.get("adapter_settings") or {})
        return Source(path, network, *adapter, base, content)
    yaml = yaml_beside(path)
    if yaml is None:
        raise CheckpointError(
            f"{path}: is not a training checkpoint of sam2vt: it carries no configuration under "
            f"hyper_parameters.config. Give a file of a run's checkpoints folder, or put the network's YAML "
            f"beside it, as {Path(path).stem}.yaml"
        )
    network = build.network_config(yaml, image_size or sizes_of(yaml)[0])
    return Source(path, network, base=base, content=content)


@contextmanager
def exporting(out: str | Path, *checkpoints: str | Path) -> Iterator[Write]:
    """Yield a function that writes weights to `out` and their network's YAML beside it.

    Raises CheckpointError for an `out` that cannot be written or would destroy one of `checkpoints`.
    """
    out = Path(out)
    for checkpoint in checkpoints:
        _check_out(out, checkpoint)
    with _writing(out) as written:

        def write(state: Mapping[str, Tensor], network: DictConfig) -> None:
            torch.save({"model": dict(state)}, written)
            with write_whole(out.with_suffix(".yaml")) as text:
                text.write_text("# @package _global_\n" + OmegaConf.to_yaml(network))

        yield write


def _check_out(out: Path, checkpoint: str | Path) -> None:
    if out.suffix in (".yaml", ".yml"):
        raise CheckpointError(f"{out}: names the weights, such as tuned.pt; the YAML is written beside them")
    if out.is_dir():
        raise CheckpointError(f"{out}: is a folder; name the file to write the weights to")
    if out.exists() and Path(checkpoint).exists() and out.samefile(checkpoint):
        raise CheckpointError(f"{out}: is the checkpoint itself; write to another file")


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """Yield the file that becomes `out`; a refused export leaves nothing behind, not even a folder."""
    try:
        with new_folder(out.parent), write_whole(out, keep_suffix=True) as written:
            written.touch()  # before minutes of reading
            yield written
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror or error}") from error
