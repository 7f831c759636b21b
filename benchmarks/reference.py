"""SAM 2's own training model and loss, with our network's weights and our clips."""

from __future__ import annotations

from typing import Any

import torch

from sam2vt.core.model import build
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.types import Batch


def reference_model(ours: SAM2Model, config_path: str, **settings: Any) -> torch.nn.Module:
    """SAM2Train with our network's weights and what trains of it; mask prompts, unless `settings` differ."""
    from hydra.utils import instantiate

    config = build.network_config(config_path, ours.image_size)
    config.model._target_ = "training.model.sam2.SAM2Train"
    for name, value in settings.items():
        config.model[name] = value
    reference = instantiate(config.model)
    reference.load_state_dict(ours.network.state_dict(), strict=True)
    for name, parameter in ours.network.named_parameters():
        reference.get_parameter(name).requires_grad_(parameter.requires_grad)
    return reference.train()


def reference_loss() -> torch.nn.Module:
    """Its loss as its published fine-tuning recipe weighs it."""
    from training.loss_fns import MultiStepMultiMasksAndIous

    return MultiStepMultiMasksAndIous(
        weight_dict={"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1},
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )


def reference_batch(batch: Batch, model: SAM2Model) -> Any:
    """One clip as the reference's datapoint."""
    from training.utils.data_utils import BatchedVideoDatapoint, BatchedVideoMetaData

    images = (batch["images"].float() / 255 - model.pixel_mean) / model.pixel_std
    masks = batch["masks"][0]
    num_frames, num_objects = masks.shape[:2]
    index = torch.stack([torch.tensor([[t, 0]] * num_objects) for t in range(num_frames)])
    return BatchedVideoDatapoint(
        img_batch=images.transpose(0, 1),
        obj_to_frame_idx=index.int().to(masks.device),
        masks=masks,
        metadata=BatchedVideoMetaData(
            unique_objects_identifier=torch.zeros(num_frames, num_objects, 3, dtype=torch.long),
            frame_orig_size=torch.zeros(num_frames, num_objects, 2, dtype=torch.long),
        ),
        dict_key="all",
        batch_size=[num_frames],
    )
