"""The differentiable memory loop: objects of all clips packed, frame after frame.

SAM 2 decides several things once a call: whether a frame conditions, the kind of prompt, how many
points, which frames it remembers. Objects that share their conditioning frames therefore form a cohort
with one memory; on a prompted frame a cohort divides further by kind of prompt. A homogeneous batch is
one cohort and one call a frame. Conditioning frames run first, then the rest in time order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2vt.core.model.recompute import again
from sam2vt.core.model.tracking.features import FrameFeatures, pick
from sam2vt.core.model.tracking.frame_call import FrameCall, FrameOutput, GroundTruth, TrackingRules
from sam2vt.core.model.tracking.memory import MemoryBank, merge_entries
from sam2vt.core.model.tracking.memory_attention import attend_frames
from sam2vt.core.model.tracking.prompt_inputs import PackedObject, PromptKind, prompt_kind


@dataclass
class Cohort:
    """Objects that share their conditioning frames, with what they remember."""

    rows: list[int]  # places among the packed objects
    objects: list[PackedObject]
    bank: MemoryBank = field(default_factory=MemoryBank)

    @property
    def conditioning_frames(self) -> tuple[int, ...]:
        return self.objects[0].conditioning_frames

    def images(self, frame: int, num_frames: int) -> list[int]:
        """The image of each object on a frame, where the T images of each clip follow one another."""
        return [packed.clip * num_frames + frame for packed in self.objects]


class AttendedFrames(NamedTuple):
    """What the memory attention's first layer makes of the J images that need it."""

    tokens: Tensor  # [L, J, C]
    places: dict[int, int]  # of each such image among the J

    def of(self, images: Sequence[int]) -> Tensor:
        return pick(self.tokens, [self.places[image] for image in images])


def attend_images(
    network: Any, features: FrameFeatures, images: Sequence[int], recompute: bool = False
) -> AttendedFrames:
    """The chosen images through the memory attention's first self-attention, once for all objects.

    With `recompute` one after another, and again in backward.
    """
    tokens, places = features.levels[-1], {image: place for place, image in enumerate(images)}
    if images:
        parts = pick(tokens, images).split(1 if recompute else len(images), 1)
        attended = [again(recompute, attend_frames, network, part, features.positions) for part in parts]
        tokens = torch.cat(attended, 1) if recompute else attended[0]
    return AttendedFrames(tokens, places)


def make_cohorts(objects: Sequence[PackedObject]) -> list[Cohort]:
    rows_by_frames: dict[tuple[int, ...], list[int]] = {}
    for row, packed in enumerate(objects):
        rows_by_frames.setdefault(packed.conditioning_frames, []).append(row)
    return [Cohort(rows, [objects[row] for row in rows]) for rows in rows_by_frames.values()]


def track_clips(
    network: Any,
    features: FrameFeatures,
    objects: Sequence[PackedObject],
    num_frames: int,
    rules: TrackingRules,
    truth: GroundTruth | None,
) -> list[tuple[int, FrameOutput]]:
    """Track the packed objects through clips of `num_frames`; (frame, output) pairs in no given order.

    `features` are those of all B*T frames, clip after clip. Frames before an object's first prompt are
    not tracked.
    """
    cohorts = make_cohorts(objects)
    images = _images_that_attend(network, cohorts, num_frames)
    attended = attend_images(network, features, images, "memory_attention" in rules.recompute)
    outputs = []
    for cohort in cohorts:
        order = _processing_order(cohort, num_frames)
        for place, frame in enumerate(order):
            if rules.bptt_frames and place and place % rules.bptt_frames == 0:
                cohort.bank.cut_gradient()
            images = cohort.images(frame, num_frames)
            frame_outputs = track_frame(
                network,
                cohort,
                frame,
                features.of(images),
                attended.of(images) if attends(network, cohort, frame) else None,
                num_frames,
                rules,
                truth,
                remember=frame != order[-1],
            )
            outputs += [(frame, output) for output in frame_outputs]
    return outputs


def attends(network: Any, cohort: Cohort, frame: int) -> bool:
    """Whether a frame goes through the memory attention; SAM 2 spares prompted ones."""
    return network.num_maskmem > 0 and frame not in cohort.conditioning_frames


def track_frame(
    network: Any,
    cohort: Cohort,
    frame: int,
    features: FrameFeatures,
    attended: Tensor | None,
    num_frames: int,
    rules: TrackingRules,
    truth: GroundTruth | None = None,
    remember: bool = True,
) -> list[FrameOutput]:
    """One frame of one cohort, whose features come an object each; an output for each kind of prompt.

    `attended` [L, K, C] is what `attend_frames` makes of the coarsest features, needed where `attends`.
    With `remember`, what the frame leaves in memory is added to the cohort's bank.
    """
    remember = remember and network.num_maskmem > 0
    rows = torch.tensor(cohort.rows, device=features.levels[0].device)
    outputs, entries, order = [], [], []
    for key, places in _groups(cohort, frame, rules, truth).items():
        whole = len(places) == len(cohort.objects)
        call = FrameCall(
            network=network,
            frame=frame,
            num_frames=num_frames,
            rows=rows if whole else rows[torch.tensor(places, device=rows.device)],
            features=features.of(places),
            attended=None if attended is None else pick(attended, places),
            prompts=None if key.kind is None else [cohort.objects[p].prompts[frame] for p in places],
            corrected=key.corrected,
            bank=cohort.bank,
            rules=rules,
            truth=truth,
        )
        output, entry = call.run(remember)
        outputs.append(output)
        entries += [] if entry is None else [entry]
        order += places
    if remember:
        cohort.bank.add(frame, merge_entries(entries, order), frame in cohort.conditioning_frames)
    return outputs


class _CallKey(NamedTuple):
    kind: PromptKind | None  # None: not prompted on this frame
    corrected: bool


def _images_that_attend(network: Any, cohorts: Sequence[Cohort], num_frames: int) -> list[int]:
    return sorted(
        {
            image
            for cohort in cohorts
            for frame in _processing_order(cohort, num_frames)
            if attends(network, cohort, frame)
            for image in cohort.images(frame, num_frames)
        }
    )


def _processing_order(cohort: Cohort, num_frames: int) -> list[int]:
    first = list(cohort.conditioning_frames)
    return first + [t for t in range(first[0], num_frames) if t not in first]


def _groups(
    cohort: Cohort, frame: int, rules: TrackingRules, truth: GroundTruth | None
) -> dict[_CallKey, list[int]]:
    """Places of a cohort's objects by what must agree in one call."""
    if frame not in cohort.conditioning_frames:
        return {_CallKey(None, False): list(range(len(cohort.objects)))}
    groups: dict[_CallKey, list[int]] = {}
    for place, (row, packed) in enumerate(zip(cohort.rows, cohort.objects)):
        kind = prompt_kind(packed.prompts[frame])
        known = truth is not None and rules.num_clicks > 0 and truth.known_on_host[frame][row]
        corrected = known and not kind.is_mask
        groups.setdefault(_CallKey(kind, corrected), []).append(place)
    return groups
