"""Tracking through a whole video, one frame in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2vt.core.model.tracking import clips as tracking
from sam2vt.core.model.tracking.features import FrameFeatures
from sam2vt.core.model.tracking.frame_call import TrackingRules
from sam2vt.core.model.tracking.memory import frames_read_back
from sam2vt.core.model.tracking.prompt_inputs import PackedObject


class FramePrediction(NamedTuple):
    """What `propagate` says of one frame, for the K objects prompted so far."""

    frame_index: int
    object_indices: list[int]  # K slots
    masks: Tensor  # [K, H, W] logits
    ious: Tensor  # [K]
    object_score_logits: Tensor  # [K]


def track_video(
    network: Any,
    encode: Callable[[Tensor], FrameFeatures],
    frames: Iterable[Tensor],
    objects: Sequence[PackedObject],
    num_frames: int,
    running: Callable[[bool], AbstractContextManager[Any]],
) -> Iterator[FramePrediction]:
    """What is said of each of `frames`, [3, H, W] in order; the network runs within `running(False)`."""
    cohorts = tracking.make_cohorts(objects)
    reach = frames_read_back(network)
    device = next(network.parameters()).device
    for frame, image in enumerate(frames):
        active = [c for c in cohorts if c.conditioning_frames[0] <= frame]
        outputs: list[tracking.FrameOutput] = []
        if active:
            with running(False):
                features = encode(image.unsqueeze(0).to(device))
                outputs = _track_frame(network, features, frame, active, num_frames)
        for cohort in active:
            cohort.bank.forget_before(frame + 1 - reach)
        yield _frame_prediction(frame, outputs, objects, network.image_size, device)


def _track_frame(
    network: Any,
    features: FrameFeatures,
    frame: int,
    cohorts: Sequence[tracking.Cohort],
    num_frames: int,
) -> list[tracking.FrameOutput]:
    """One frame for all objects that are tracked by then."""
    looking = any(tracking.attends(network, c, frame) for c in cohorts)
    attended = tracking.attend_images(network, features, [0] if looking else [])
    outputs = []
    for cohort in cohorts:
        images = [0] * len(cohort.rows)
        outputs += tracking.track_frame(
            network,
            cohort,
            frame,
            features.of(images),
            attended.of(images) if tracking.attends(network, cohort, frame) else None,
            num_frames,
            TrackingRules(),
        )
    return outputs


def _frame_prediction(
    frame: int,
    outputs: Sequence[tracking.FrameOutput],
    objects: Sequence[PackedObject],
    size: int,
    device: torch.device,
) -> FramePrediction:
    if not outputs:
        empty = torch.empty(0, device=device)
        return FramePrediction(frame, [], empty.reshape(0, size, size), empty, empty)
    rows = torch.cat([output.rows for output in outputs])
    order = torch.argsort(rows)
    return FramePrediction(
        frame,
        [objects[row].slot for row in rows[order].tolist()],
        torch.cat([output.masks_high_res for output in outputs])[order],
        torch.cat([output.ious for output in outputs])[order],
        torch.cat([output.object_score_logits for output in outputs])[order],
    )
