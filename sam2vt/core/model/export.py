"""Export a checkpoint: weights and a YAML that stock SAM 2 loads strictly, or a folder for transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sam2vt.core.model import adapters, build
from sam2vt.core.model.checkpoints import load_weights, read_checkpoint, trained_model, training_config
from sam2vt.core.model.hf.card import Recipe, model_card
from sam2vt.core.model.hf.config import TEMPLATE, config_of, network_of
from sam2vt.core.model.hf.names import to_transformers
from sam2vt.core.model.hf.weights import safetensors, write_weights
from sam2vt.core.model.network_yaml import read_network, sizes_of, yaml_beside
from sam2vt.core.model.sam2 import PIXEL_MEAN, PIXEL_STD, architecture_of
from sam2vt.core.storage.disk import new_folder, write_whole
from sam2vt.core.storage.hf_folder import CARD, CONFIG, WEIGHTS, read_config
from sam2vt.errors import CheckpointError

Write = Callable[[Mapping[str, Tensor], DictConfig], None]
# Without an effect on what the tracked masks are: of the training, or the same while tracking.
_NO_MATTER = (
    ".dropout",
    ".drop_path",
    ".drop_path_rate",
    ".feat_sizes",  # follows from the image size
    "model.compile_image_encoder",
    "model.use_signed_tpos_enc_to_obj_ptrs",  # read are only pointers of the past
    "model.binarize_mask_from_pts_for_mem_enc",  # SAM 2's video predictor always does
)


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


def export_to_transformers(
    checkpoint: str, out: str | Path, *, base: str | None = None, score: float | None = None
) -> Path:
    """Write a checkpoint as model.safetensors, config.json, the processor's files and a model card; return
    the folder.

    An adapter is merged into the weights. `base` is the place of the checkpoint that the training started
    from, if it was moved, and `score` the checkpoint's J&F. Raises CheckpointError for a network that
    transformers cannot build, which names what differs, before weights are read, and for an `out` that cannot
    be written or holds something else.
    """
    out = Path(out).expanduser()
    _check_folder(out, checkpoint)
    safetensors(str(out))  # before minutes of reading
    source = find_source(checkpoint, base=base)
    config = _config_for(source.network, checkpoint)
    content = source.content or {}
    step = content.get("global_step")
    recipe = Recipe(training_config(content), step if isinstance(step, int) else None, score)
    state = to_transformers(source.read().state_dict(), checkpoint)
    size = config["image_size"]
    texts = {name: json.dumps(each, indent=2) + "\n" for name, each in _processor(size).items()}
    texts |= {CONFIG: json.dumps(config, indent=2) + "\n", CARD: model_card(out.name, size, recipe)}
    try:
        with new_folder(out):
            with write_whole(out / WEIGHTS) as written:
                write_weights(state, written)
            for name, text in texts.items():
                with write_whole(out / name) as written:
                    written.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out


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
        model = trained_model(config, path)
        fields = architecture_of(vars(model))
        network = build.network_config(model.config_path, image_size or model.image_size, fields)
        return Source(path, network, model.adapter, model.adapter_settings or {}, base, content)
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


def _config_for(network: DictConfig, path: str) -> dict[str, Any]:
    """Return the configuration of a network for transformers. Raises CheckpointError if it cannot hold it."""
    config = config_of(build.completed(network))
    back = network_of(config, read_network(TEMPLATE), path)
    lost = [
        each
        for each in build.network_differences(network, OmegaConf.create({"model": back}))
        if not each.partition(" is ")[0].endswith(_NO_MATTER)
    ]
    if lost:
        more = f" and {len(lost) - 3} more" * (len(lost) > 3)
        raise CheckpointError(
            f"{path}: transformers' Sam2VideoModel cannot be built like this network (there: what it has): "
            f"{'; '.join(lost[:3])}{more}. Export it without --to hf, for SAM 2 itself"
        )
    return config


def _processor(size: int) -> dict[str, Mapping[str, Any]]:
    """Return the files of a `Sam2VideoProcessor`, which scales frames, clicks and boxes to the image size."""
    side = {"height": size, "width": size}
    shared = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
        "resample": 2,  # bilinear
        "rescale_factor": 1 / 255,
        "size": side,
        "processor_class": "Sam2VideoProcessor",
    }
    masks = {"height": size // 4, "width": size // 4}
    # The name of the image processor's class before version 5, which later ones know, too.
    image = {**shared, "image_processor_type": "Sam2ImageProcessorFast", "mask_size": masks}
    return {
        "preprocessor_config.json": image,
        "video_preprocessor_config.json": {**shared, "video_processor_type": "Sam2VideoVideoProcessor"},
        "processor_config.json": {
            "processor_class": "Sam2VideoProcessor",
            "target_size": size,
            "point_pad_value": -10,
        },
    }


def _check_folder(out: Path, checkpoint: str) -> None:
    if out.is_file():
        raise CheckpointError(f"{out}: is a file; name a folder to write config.json and weights to")
    if not out.is_dir():
        return
    if "://" not in checkpoint and Path(checkpoint).expanduser().resolve().parent == out.resolve():
        raise CheckpointError(f"{out}: holds the checkpoint itself; write to another folder")
    if (out / CONFIG).is_file():
        read_config(out / CONFIG)  # not of another model
    elif any(out.iterdir()):
        raise CheckpointError(f"{out}: holds other files; name a new folder, or an earlier export to replace")
