"""Run the differentiable memory loop over packed objects of all clips, frame by frame.

SAM 2 decides several things once per call: whether a frame is a conditioning frame, the kind of prompt, the
number of points, the frames in memory. Therefore objects that share their conditioning frames form a cohort
with one memory. On a prompted frame, a cohort is divided further by kind of prompt. A homogeneous batch is
one cohort and one call per frame. Conditioning frames run first, then the rest in time order, as in
SAM2Train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2vt.core.model.execution import recomputed
from sam2vt.core.model.tracking.features import FrameFeatures, pick
from sam2vt.core.model.tracking.frame_call import FrameCall, FrameOutput, TrackingRun
from sam2vt.core.model.tracking.memory import MemoryBank, merge_entries
from sam2vt.core.model.tracking.memory_attention import attend_frames
from sam2vt.core.model.tracking.prompt_inputs import PackedObject, PromptKind, prompt_kind


@dataclass
class Cohort:
    """Objects that share their conditioning frames, and their memory."""

    rows: list[int]  # places among the packed objects
    objects: list[PackedObject]
    bank: MemoryBank = field(default_factory=MemoryBank)

    @property
    def conditioning_frames(self) -> tuple[int, ...]:
        """The frames on which these objects are prompted, in order."""
        return self.objects[0].conditioning_frames

    def images(self, frame: int, num_frames: int) -> list[int]:
        """Return each object's image on a frame; the T images of each clip follow one another."""
        return [packed.clip * num_frames + frame for packed in self.objects]

    def of(self, places: Sequence[int]) -> Cohort:
        """Return a cohort of the objects at these places, with their memory."""
        bank = self.bank.changed(int, lambda entry: entry.of(places))
        return Cohort([self.rows[each] for each in places], [self.objects[each] for each in places], bank)

    def state(self) -> dict[str, Any]:
        """Return the cohort in plain containers."""
        objects = [list(each) for each in self.objects]
        return {"rows": list(self.rows), "objects": objects, "bank": self.bank.state()}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Cohort:
        """Return the cohort of a `state`."""
        cohort = cls(state["rows"], [PackedObject(*each) for each in state["objects"]])
        cohort.bank.restore(state["bank"])
        return cohort


class AttendedFrames(NamedTuple):
    """The J images that read memory, after the memory attention's first self-attention."""

    tokens: Tensor  # [L, J, C]
    places: dict[int, int]  # of each such image among the J

    def of(self, images: Sequence[int]) -> Tensor:
        """Return the tokens [L, K, C] of these K images."""
        return pick(self.tokens, [self.places[image] for image in images])


def attend_images(run: TrackingRun, features: FrameFeatures, images: Sequence[int]) -> AttendedFrames:
    """Run these images through the memory attention's first self-attention, once for all objects.

    If the memory attention is recomputed, they go one by one, so that only one is in memory.
    """
    tokens, places = features.levels[-1], {image: place for place, image in enumerate(images)}
    if images:
        recompute = run.recomputes("memory_attention")
        parts = pick(tokens, images).split(1 if recompute else len(images), 1)
        given = (recompute, attend_frames, run.network)
        attended = [recomputed(*given, part, features.positions) for part in parts]
        tokens = torch.cat(attended, 1) if recompute else attended[0]
    return AttendedFrames(tokens, places)


def make_cohorts(objects: Sequence[PackedObject]) -> list[Cohort]:
    """Return the packed objects in cohorts without memory."""
    rows_by_frames: dict[tuple[int, ...], list[int]] = {}
    for row, packed in enumerate(objects):
        rows_by_frames.setdefault(packed.conditioning_frames, []).append(row)
    return [Cohort(rows, [objects[row] for row in rows]) for rows in rows_by_frames.values()]


def track_clips(
    run: TrackingRun, features: FrameFeatures, objects: Sequence[PackedObject]
) -> list[tuple[int, FrameOutput]]:
    """Track the packed objects through their clips; return (frame, output) pairs in no given order.

    `features` are those of all B*T frames, clip after clip. Frames before an object's first prompt are
    not tracked.
    """
    cohorts, cut_after = make_cohorts(objects), run.rules.bptt_frames
    attended = attend_images(run, features, _images_that_attend(run, cohorts))
    outputs = []
    for cohort in cohorts:
        order = _processing_order(cohort, run.num_frames)
        for place, frame in enumerate(order):
            if cut_after and place and place % cut_after == 0:
                cohort.bank.cut_gradient()
            images = cohort.images(frame, run.num_frames)
            # Nothing reads the memory of the last frame.
            remember = frame != order[-1]
            of_frame = track_frame(run, cohort, frame, images, features, attended, remember)
            outputs += [(frame, output) for output in of_frame]
    return outputs


def attends(network: Any, cohort: Cohort, frame: int) -> bool:
    """Return whether a frame goes through the memory attention; SAM 2 skips it on prompted ones."""
    return network.num_maskmem > 0 and frame not in cohort.conditioning_frames


def track_frame(
    run: TrackingRun,
    cohort: Cohort,
    frame: int,
    images: Sequence[int],
    features: FrameFeatures,
    attended: AttendedFrames,
    remember: bool = True,
) -> list[FrameOutput]:
    """Track one cohort on one frame; return one output per kind of prompt.

    `images` are the places of each object's image in `features`. With `remember`, the frame's memory is added
    to the cohort's bank.
    """
    remember = remember and run.network.num_maskmem > 0
    reads = attends(run.network, cohort, frame)
    rows = torch.tensor(cohort.rows, device=features.levels[0].device)
    outputs, entries, order = [], [], []
    for key, places in _groups(run, cohort, frame).items():
        seen = [images[place] for place in places]
        call = FrameCall(
            run=run,
            frame=frame,
            rows=rows if len(places) == len(rows) else rows[torch.tensor(places, device=rows.device)],
            features=features.of(seen),
            attended=attended.of(seen) if reads else None,
            prompts=None if key.kind is None else [cohort.objects[p].prompts[frame] for p in places],
            corrected=key.corrected,
            bank=cohort.bank,
        )
        output, entry = call.outputs(remember)
        outputs.append(output)
        entries += [] if entry is None else [entry]
        order += places
    if remember:
        cohort.bank.add(frame, merge_entries(entries, order), frame in cohort.conditioning_frames)
    return outputs


class _CallKey(NamedTuple):
    kind: PromptKind | None  # None: not prompted on this frame
    corrected: bool


def _images_that_attend(run: TrackingRun, cohorts: Sequence[Cohort]) -> list[int]:
    images: set[int] = set()
    for cohort in cohorts:
        for frame in _processing_order(cohort, run.num_frames):
            if attends(run.network, cohort, frame):
                images.update(cohort.images(frame, run.num_frames))
    return sorted(images)


def _processing_order(cohort: Cohort, num_frames: int) -> list[int]:
    first = list(cohort.conditioning_frames)
    return first + [t for t in range(first[0], num_frames) if t not in first]


def _groups(run: TrackingRun, cohort: Cohort, frame: int) -> dict[_CallKey, list[int]]:
    """Return the places of a cohort's objects by what must agree in one call."""
    if frame not in cohort.conditioning_frames:
        return {_CallKey(None, False): list(range(len(cohort.objects)))}
    truth = run.truth
    groups: dict[_CallKey, list[int]] = {}
    for place, (row, packed) in enumerate(zip(cohort.rows, cohort.objects)):
        kind = prompt_kind(packed.prompts[frame])
        known = truth is not None and run.rules.num_clicks > 0 and truth.known_on_host[frame][row]
        corrected = known and not kind.is_mask  # as in SAM2Train, which never corrects a mask prompt
        groups.setdefault(_CallKey(kind, corrected), []).append(place)
    return groups
