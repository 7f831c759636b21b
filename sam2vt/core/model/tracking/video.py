"""Tracking through a whole video, one frame in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2vt.core.model.tracking.clips import Cohort, attend_images, attends, make_cohorts, track_frame
from sam2vt.core.model.tracking.features import FrameFeatures
from sam2vt.core.model.tracking.frame_call import FrameOutput, TrackingRules, TrackingRun
from sam2vt.core.model.tracking.memory import frames_read_back
from sam2vt.core.model.tracking.postprocessing import as_stock
from sam2vt.core.model.tracking.prompt_inputs import PackedObject


class FramePrediction(NamedTuple):
    """The prediction for one frame, for the K objects prompted so far."""

    frame_index: int
    object_indices: list[int]  # K slots
    masks: Tensor  # [K, H, W] logits; [K, H/4, W/4] with stock's post-processing, which resizes them once
    ious: Tensor  # [K]
    object_score_logits: Tensor  # [K]


def track_video(
    network: Any,
    encode: Callable[[Tensor], FrameFeatures],
    frames: Iterable[Tensor],
    objects: Sequence[PackedObject],
    num_frames: int,
    running: Callable[[bool], AbstractContextManager[Any]],
    rules: TrackingRules,
) -> Iterator[FramePrediction]:
    """Yield the prediction of each of `frames`, [3, H, W] in order.

    The network runs within `running(False)`.
    """
    run, cohorts = TrackingRun(network, num_frames, rules), make_cohorts(objects)
    oldest_read = frames_read_back(network)
    device = next(network.parameters()).device
    for frame, image in enumerate(frames):
        active = [c for c in cohorts if c.conditioning_frames[0] <= frame]
        outputs: list[FrameOutput] = []
        if active:
            with running(False), as_stock(network) if rules.as_stock else nullcontext():
                features = encode(image.unsqueeze(0).to(device))
                outputs = _track_frame(run, features, frame, active)
        for cohort in active:  # bounds the memory of a video of any length
            cohort.bank.forget_before(frame + 1 - oldest_read)
        yield _frame_prediction(run, frame, outputs, objects, device)


def _track_frame(
    run: TrackingRun, features: FrameFeatures, frame: int, cohorts: Sequence[Cohort]
) -> list[FrameOutput]:
    """Track one frame for all objects that have been prompted; its features are those of one image."""
    read = any(attends(run.network, cohort, frame) for cohort in cohorts)
    attended = attend_images(run, features, [0] if read else [])
    outputs = []
    for cohort in cohorts:
        outputs += track_frame(run, cohort, frame, [0] * len(cohort.rows), features, attended)
    return outputs


def _frame_prediction(
    run: TrackingRun,
    frame: int,
    outputs: Sequence[FrameOutput],
    objects: Sequence[PackedObject],
    device: torch.device,
) -> FramePrediction:
    size = run.network.image_size // (4 if run.rules.as_stock else 1)
    if not outputs:
        empty = torch.empty(0, device=device)
        return FramePrediction(frame, [], empty.reshape(0, size, size), empty, empty)
    rows = torch.cat([output.rows for output in outputs])
    order = torch.argsort(rows)
    return FramePrediction(
        frame,
        [objects[row].slot for row in rows[order].tolist()],
        torch.cat([o.masks if run.rules.as_stock else o.masks_high_res for o in outputs])[order],
        torch.cat([output.ious for output in outputs])[order],
        torch.cat([output.object_score_logits for output in outputs])[order],
    )
