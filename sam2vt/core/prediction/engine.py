"""Wrap the model for prediction, with prompts and masks at the source's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.data.frames.images import resize_mask
from sam2vt.core.evaluation.video import settle_overlaps
from sam2vt.core.model.tracking.session import FramePrediction, TrackingSession
from sam2vt.core.prediction.cleanup import clean
from sam2vt.core.prediction.types import Click, FrameMasks, ObjectMask, ObjectPrompt
from sam2vt.core.prediction.weights import Weights
from sam2vt.core.types import Prompt
from sam2vt.errors import ConfigError

OVERLAPS = ("resolve", "keep")
RESIZES = ("area", "stock")
_POSITIVE, _NEGATIVE, _TOP_LEFT, _BOTTOM_RIGHT = 1, 0, 2, 3


@dataclass(frozen=True)
class MaskOptions:
    """How frames are resized and logits become masks. Raises ConfigError for invalid values."""

    resize: str = "area"  # frames as in training, or as SAM 2's predictor resizes them
    overlaps: str = "resolve"  # a pixel belongs to the object of the largest logit, or to several
    presence: float = 0.5  # an object of no higher presence is absent
    fill_holes: int = 0  # holes of up to so many pixels are filled
    min_area: int = 0  # islands of fewer pixels are removed

    def __post_init__(self) -> None:
        faults = [
            f"{name}={getattr(self, name)}: allowed are {', '.join(allowed)}"
            for name, allowed in (("resize", RESIZES), ("overlaps", OVERLAPS))
            if getattr(self, name) not in allowed
        ]
        faults += [
            f"{name}={value}: allowed are whole numbers of pixels from 0 on, 0 for off"
            for name, value in (("fill_holes", self.fill_holes), ("min_area", self.min_area))
            if type(value) is not int or value < 0
        ]
        if isinstance(self.presence, bool) or not 0 <= self.presence <= 1:
            faults.append(f"presence={self.presence}: allowed are probabilities from 0 to 1")
        if faults:
            raise ConfigError.listing("how masks are made", faults)

    @property
    def as_stock(self) -> bool:
        """Whether frames and masks are resized as SAM 2's predictor does."""
        return self.resize == "stock"


class Engine:
    """Weights and options; creates sessions, and converts between pixels of the source and of the model."""

    def __init__(self, weights: Weights, options: MaskOptions) -> None:
        from sam2vt.core.model.speedups.fixed_weights import fix_weights  # imports SAM 2

        self.weights, self.options, self.model = weights, options, weights.model
        fix_weights(self.model.network)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return self.model.image_size, self.model.image_size

    def session(self, num_frames: int | None, keeps_start: bool = False) -> TrackingSession:
        """Return a session for one video."""
        # What this does not blank is blanked by `masks`, which knows the threshold.
        return self.model.session(num_frames, keeps_start, gate_outputs=self.options.presence >= 0.5)

    def prompt(self, given: ObjectPrompt, height: int, width: int, before: tuple[Click, ...] = ()) -> Prompt:
        """Return a prompt in the model's form; `before` are earlier clicks on the same frame."""
        if given.mask is not None:
            mask = resize_mask(given.mask, self.size, self.options.as_stock)
            return Prompt(type="mask", mask=torch.from_numpy(mask))
        box = given.box or ()
        # SAM 2 was trained with the corners before the clicks.
        points = [box[:2], box[2:]] if box else []
        labels = [_TOP_LEFT, _BOTTOM_RIGHT] if box else []
        for click in (*before, *given.clicks):
            points.append((click.x, click.y))
            labels.append(_POSITIVE if click.is_positive else _NEGATIVE)
        scale = torch.tensor([self.size[1] / width, self.size[0] / height])
        return Prompt(
            type="box" if box else "point",
            point_coords=torch.tensor(points, dtype=torch.float32) * scale,
            point_labels=torch.tensor(labels, dtype=torch.int32),
        )

    @torch.no_grad()
    def masks(
        self, prediction: FramePrediction, frame: int, height: int, width: int, names: dict[int, str]
    ) -> FrameMasks:
        """Return a frame's masks at the source's size; slots are the objects' ids."""
        scores = prediction.object_score_logits.float()
        knows_absence = self.model.network.pred_obj_scores
        presence = scores.sigmoid() if knows_absence else torch.ones_like(scores)
        visible = presence > self.options.presence if knows_absence else torch.ones_like(scores).bool()
        logits = torch.where(visible[:, None, None], prediction.masks.float(), -1.0)
        masks = self._separated(logits, (height, width))
        found = zip(prediction.object_indices, masks, presence.tolist(), prediction.ious.float().tolist())
        objects = tuple(ObjectMask(key, names.get(key, ""), *each) for key, *each in found)
        return FrameMasks(frame, height, width, objects)

    def _separated(self, logits: Tensor, size: tuple[int, int]) -> list[np.ndarray]:
        """Return bool [height, width] per object, cleaned; without overlaps where those are resolved."""
        sizes = self.options.fill_holes, self.options.min_area
        if self.options.overlaps == "keep":
            return [clean(_resized(each, size), *sizes) for each in logits]
        owner = settle_overlaps(logits, size)
        if not any(sizes):
            return [owner == place for place in range(len(logits))]
        masks = []
        for place in range(len(logits)):
            mask = clean(owner == place, *sizes)
            # A hole that is filled may be where another object is.
            masks.append(mask & ((owner == place) | (owner < 0)))
            owner[masks[-1]] = place
        return masks


def _resized(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    full: Any = logits
    if tuple(logits.shape) != size:
        full = F.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    return (full > 0).cpu().numpy()
