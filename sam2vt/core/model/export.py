"""Export a training checkpoint as a checkpoint and a YAML that stock SAM 2 loads strictly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from sam2vt.core.model import adapters, build
from sam2vt.core.model.checkpoints import load_weights, read_checkpoint
from sam2vt.core.model.sam2 import architecture_of
from sam2vt.core.storage.disk import new_folder, write_whole
from sam2vt.errors import CheckpointError


def export_checkpoint(training_checkpoint: str | Path, out: str | Path, *, base: str | None = None) -> Path:
    """Write the network's weights to `out` and its YAML beside it; return the YAML's path.

    Both load with SAM 2's own `build_sam2("//<absolute path>.yaml", str(out))` and
    `build_sam2_video_predictor`. An adapter is merged into the weights. `base` is the place of the
    checkpoint that the training started from, if it was moved.

    Raises CheckpointError for a file that is no checkpoint of ours, for an adapter that cannot be merged,
    and for an `out` that cannot be written or would destroy the checkpoint.
    """
    out = Path(out)
    _check_out(out, training_checkpoint)
    with _writing(out) as written:
        model_config = model_config_of(training_checkpoint)
        config = build.network_config(
            model_config["config_path"], model_config["image_size"], architecture_of(model_config)
        )
        network = build.build_network(config)
        # Its names have to be there before the weights, which hold the adapter's too.
        adapter = model_config.get("adapter", adapters.NONE)
        adapters.adapt(network, adapter, model_config.get("adapter_settings") or {})
        load_weights(network, str(training_checkpoint), base)
        adapters.merge(network, adapter, str(training_checkpoint))
        torch.save({"model": network.state_dict()}, written)
        yaml = out.with_suffix(".yaml")
        with write_whole(yaml) as text:
            text.write_text("# @package _global_\n" + OmegaConf.to_yaml(config))
    return yaml


def _check_out(out: Path, training_checkpoint: str | Path) -> None:
    if out.suffix in (".yaml", ".yml"):
        raise CheckpointError(f"{out}: names the weights, such as tuned.pt; the YAML is written beside them")
    if out.is_dir():
        raise CheckpointError(f"{out}: is a folder; name the file to write the weights to")
    if out.exists() and Path(training_checkpoint).exists() and out.samefile(training_checkpoint):
        raise CheckpointError(f"{out}: is the training checkpoint itself; export to another file")


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """Yield the file that becomes `out`; a refused export leaves nothing behind, not even a folder."""
    try:
        with new_folder(out.parent), write_whole(out, keep_suffix=True) as written:
            written.touch()  # before minutes of reading
            yield written
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror or error}") from error


def model_config_of(training_checkpoint: str | Path) -> dict[str, Any]:
    """Return the model section of the configuration in a training checkpoint."""
    content = read_checkpoint(str(training_checkpoint))
    config = content.get("hyper_parameters", {}).get("config")
    if not isinstance(config, dict) or "model" not in config:
        raise CheckpointError(
            f"{training_checkpoint}: is not a training checkpoint of sam2vt; it carries no configuration "
            f"under hyper_parameters.config. Give a file of a run's checkpoints folder."
        )
    return config["model"]
