"""Computes the added term, alone and within the total."""

import torch

from sam2vt.core.training.loss import SAM2TrainingLoss

target = torch.zeros(1, 1, 1, 8, 8, dtype=torch.bool)
target[..., :4] = True
logits = torch.full((1, 1, 1, 8, 8), 30.0, requires_grad=True)  # everything is predicted, half is there
plain = SAM2TrainingLoss()(logits, target)
total, components = SAM2TrainingLoss(area_weight=2.0)(logits, target, return_components=True)
assert abs(float(components["area"]) - 0.5) < 1e-4
assert abs(float(total - plain) - 1.0) < 1e-3
