"""The nano network with the widths that transformers can express: its memory always has 64 channels."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import OmegaConf

from sam2vt.core.model.hf.config import FIELDS
from sam2vt.core.model.sam2 import SAM2Model

from .conftest import NANO

_WIDTHS = {
    "vision_config.fpn_hidden_size": 128,
    "memory_attention_hidden_size": 128,
    "memory_encoder_hidden_size": 128,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_encoder_output_channels": 64,
}


def wide_yaml(folder: Path, **fields) -> Path:
    """Write its YAML; `fields` are others of the section `model`."""
    network = OmegaConf.load(NANO)
    for name, value in _WIDTHS.items():
        for place in FIELDS[name][1]:
            OmegaConf.update(network.model, place, value)
    network.model.memory_attention.layer.cross_attention.kv_in_dim = 64
    for name, value in fields.items():
        network.model[name] = value
    path = folder / "wide.yaml"
    OmegaConf.save(network, path)
    return path


def wide_export(folder: Path, size: int = 128, **fields) -> tuple[SAM2Model, Path]:
    """Write random weights beside their YAML; return the model and the weights' file."""
    memory = fields.get("num_maskmem", 7)  # the model's own setting overrides the YAML
    model = lively_model(wide_yaml(folder, image_size=size, **fields), size, num_maskmem=memory)
    torch.save({"model": model.network.state_dict()}, folder / "wide.pt")
    return model, folder / "wide.pt"


def lively_model(yaml: str | Path, size: int, **settings) -> SAM2Model:
    """Return a network of random weights whose logits are of the size of a trained one's.

    Objects are present, and memory matters.
    """
    torch.manual_seed(0)
    model = SAM2Model(None, yaml, device="cpu", image_size=size, **settings).load()
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "gamma" in name:
                parameter.fill_(0.5)
            elif "hypernetworks" in name:
                parameter.mul_(3)
            elif "embed" in name or "tpos" in name or name.startswith("no_"):
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(2)
    return model.eval()
