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

from sam2vt.core.model.frame_call import FrameCall, FrameFeatures, FrameOutput, GroundTruth, TrackingRules
from sam2vt.core.model.memory import Entry, MemoryBank
from sam2vt.core.model.prompt_inputs import PackedObject, PromptKind, prompt_kind


@dataclass
class Cohort:
    """Objects that share their conditioning frames, with what they remember."""

    rows: list[int]  # places among the packed objects
    objects: list[PackedObject]
    bank: MemoryBank = field(default_factory=MemoryBank)

    @property
    def conditioning_frames(self) -> tuple[int, ...]:
        return self.objects[0].conditioning_frames


def encode_images(network: Any, images: torch.Tensor) -> FrameFeatures:
    """Features of normalised images [I, 3, H, W]; conv_s0 and conv_s1 of the mask decoder included."""
    _, levels, positions, sizes = network._prepare_backbone_features(network.forward_image(images))
    return FrameFeatures(levels, positions, sizes)


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
    outputs = []
    for cohort in make_cohorts(objects):
        clips = torch.tensor([packed.clip for packed in cohort.objects], device=features.levels[0].device)
        order = _processing_order(cohort, num_frames)
        for place, frame in enumerate(order):
            if rules.bptt_frames and place and place % rules.bptt_frames == 0:
                cohort.bank.cut_gradient()
            here = features.of(clips * num_frames + frame)
            remember = frame != order[-1]
            frame_outputs = track_frame(network, cohort, frame, here, num_frames, rules, truth, remember)
            outputs += [(frame, output) for output in frame_outputs]
    return outputs


def track_frame(
    network: Any,
    cohort: Cohort,
    frame: int,
    features: FrameFeatures,
    num_frames: int,
    rules: TrackingRules,
    truth: GroundTruth | None = None,
    remember: bool = True,
) -> list[FrameOutput]:
    """One frame of one cohort, whose features come an object each; an output for each kind of prompt.

    With `remember`, what the frame leaves in memory is added to the cohort's bank.
    """
    remember = remember and network.num_maskmem > 0
    rows = torch.tensor(cohort.rows, device=features.levels[0].device)
    outputs, entries, order = [], [], []
    for key, places in _groups(cohort, frame, rules, truth).items():
        whole = len(places) == len(cohort.objects)
        index = torch.tensor(places, device=rows.device)
        call = FrameCall(
            network=network,
            frame=frame,
            num_frames=num_frames,
            rows=rows if whole else rows[index],
            features=features if whole else features.of(index),
            prompts=None if key.kind is None else [cohort.objects[p].prompts[frame] for p in places],
            corrected=key.corrected,
            bank=cohort.bank,
            rules=rules,
            truth=truth,
        )
        output, entry = call.run(remember)
        outputs.append(output)
        entries.append(entry)
        order += places
    if remember:
        cohort.bank.add(frame, _merge_entries(entries, order), frame in cohort.conditioning_frames)
    return outputs


class _CallKey(NamedTuple):
    kind: PromptKind | None  # None: not prompted on this frame
    corrected: bool


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


def _merge_entries(entries: list[Entry], order: list[int]) -> Entry:
    """The groups' memory entries as one, in the cohort's order."""
    if len(entries) == 1:
        return entries[0]
    device = entries[0]["maskmem_features"].device
    back = torch.argsort(torch.tensor(order, device=device))
    positions = zip(*(entry["maskmem_pos_enc"] for entry in entries))
    pointers = [entry["obj_ptr"] for entry in entries]
    return {
        "maskmem_features": torch.cat([entry["maskmem_features"] for entry in entries])[back],
        "maskmem_pos_enc": [torch.cat(level)[back] for level in positions],
        "obj_ptr": None if pointers[0] is None else torch.cat(pointers)[back],
    }
