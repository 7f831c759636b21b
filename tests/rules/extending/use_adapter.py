"""Trains the added adapter for a step, and asks for what a frozen encoder cannot have."""

import torch

from sam2vt.config import Config, ModelConfig
from sam2vt.configuration.loading import load_config, to_dict
from sam2vt.configuration.reading import configs_dir
from sam2vt.core.model.sam2 import build_from_config
from sam2vt.errors import ConfigError

nano = str(configs_dir() / "network" / "sam2.1_nano.yaml")
settings = ModelConfig(
    config_path=nano, image_size=64, trainable_modules=["sam_mask_decoder"], adapter="low_rank"
)
assert Config(model=settings).model.adapter == "low_rank"
model = build_from_config(settings).load("cpu").train()
names = [name for name, parameter in model.network.named_parameters() if parameter.requires_grad]
added = [name for name in names if name.endswith((".up", ".down"))]
assert added
masks = torch.zeros(1, 2, 1, 64, 64, dtype=torch.bool)
masks[..., 16:48, 16:48] = True
out = model(torch.rand(1, 2, 3, 64, 64), masks, [[{"type": "mask", "mask": masks[0, 0, 0]}]])
out["pred_masks"].clamp(-9, 9).mean().backward()
assert all(model.network.get_parameter(name).grad is not None for name in added)

config = Config(model=settings)
config.dataset.data_path = "."
config.model.recompute, config.optimizer.encoder_lr = ["encoder_blocks"], 1e-5
load_config(to_dict(config))
config.dataset.feature_cache = "auto"
try:
    load_config(to_dict(config))
except ConfigError as error:
    (fault,) = error.faults
assert fault.startswith("dataset.feature_cache='auto' with model.adapter='low_rank'")
