"""Decode a frame's masks from its features by SAM 2's prompt encoder, mask decoder and object pointer.

SAM 2 sets mask logits to -1024 where its object score is not positive, in training too. Then an object that
is present but scored absent costs a huge loss, and its mask gets no gradient. Here the presence gate is a
separate step, so that the caller decides what is gated and by which presence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# SAM 2 writes this where an object is absent.
NO_OBJECT_LOGIT = -1024.0
# Ours, where an object is not tracked: padding, and frames before its first prompt. Told apart from the gate,
# whose "absent" is a prediction.
NOT_TRACKED_LOGIT = -2048.0


@dataclass(frozen=True)
class DecoderStep:
    """One or several calls of the mask decoder for K entries of a batch, which the loss supervises."""

    index: Tensor  # long [K, 3], rows (clip, frame, object slot)
    multimasks: Tensor  # [K, M, h, w] logits, M = 3 or 1
    ious: Tensor | None  # [K, M] predicted IoUs; None: not known
    object_score_logits: Tensor | None  # [K, 1]; None: not known


class Decoded(NamedTuple):
    """The mask decoder's ungated output for K objects on a frame."""

    multimasks: Tensor  # float32 [K, M, h, w] logits
    ious: Tensor  # [K, M]
    masks: Tensor  # float32 [K, 1, h, w] logits, the mask of the highest predicted IoU
    iou: Tensor  # [K], its predicted IoU
    token: Tensor  # [K, C], the output token that becomes the object pointer
    object_score_logits: Tensor  # [K, 1]


def decode(
    network: Any,
    features: Tensor,
    high_res_features: list[Tensor] | None,
    points: dict[str, Tensor] | None,
    mask_logits: Tensor | None,
    multimask: bool,
) -> Decoded:
    """Run the prompt encoder and mask decoder on features [K, C, H/16, W/16].

    `points` come from `prompt_inputs.point_inputs`, `mask_logits` [K, 1, h, w] are a dense prompt at the
    prompt encoder's size; either may be None.
    """
    if points is None:  # as SAM 2 does: one point with the label of padding
        count = features.shape[0]
        coords = torch.zeros(count, 1, 2, device=features.device)
        labels = -torch.ones(count, 1, dtype=torch.int32, device=features.device)
    else:
        coords, labels = points["point_coords"], points["point_labels"]
    sparse, dense = network.sam_prompt_encoder(points=(coords, labels), boxes=None, masks=mask_logits)
    multimasks, ious, tokens, scores = network.sam_mask_decoder(
        image_embeddings=features,
        image_pe=network.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=high_res_features,
    )
    multimasks = multimasks.float()
    rows = torch.arange(ious.shape[0], device=ious.device)
    best = ious.argmax(dim=-1)
    token = tokens[rows, best] if tokens.shape[1] > 1 else tokens[:, 0]
    return Decoded(multimasks, ious, multimasks[rows, best].unsqueeze(1), ious[rows, best], token, scores)


def gate(mask_logits: Tensor, present: Tensor) -> Tensor:
    """Set the logits [K, M, h, w] of absent objects to SAM 2's constant; present: bool [K, 1]."""
    return torch.where(present[:, :, None, None], mask_logits, NO_OBJECT_LOGIT)


def object_pointer(network: Any, token: Tensor, present: Tensor, score: Tensor | None = None) -> Tensor:
    """Return the pointer [K, C] of an output token, mixed with the no-object pointer where absent.

    `score` [K, 1] replaces the hard choice by the score's probability, in networks that are made for it.
    """
    pointer = network.obj_ptr_proj(token)
    if not network.pred_obj_scores:
        return pointer
    share = present.to(pointer.dtype)
    if network.soft_no_obj_ptr and score is not None:
        share = score.sigmoid()
    return mix_no_object(network, pointer, share)


def mix_no_object(network: Any, pointer: Tensor, share: Tensor) -> Tensor:
    """Mix a pointer [K, C] with the no-object pointer, by the object's presence [K, 1] from 0 to 1."""
    if network.fixed_no_obj_ptr:
        pointer = share * pointer
    return pointer + (1 - share) * network.no_obj_ptr


def upsample(mask_logits: Tensor, size: int) -> Tensor:
    """Resize [K, M, h, w] to [K, M, size, size], bilinear."""
    return F.interpolate(mask_logits, size=(size, size), mode="bilinear", align_corners=False)
