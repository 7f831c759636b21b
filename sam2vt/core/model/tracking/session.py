"""Track frame by frame; objects may be shown, corrected and removed on any frame.

A session keeps only what later frames read, whatever the length of the video. In the backward direction,
frames count down from 0 (frame 7 is at -7), so that SAM 2 chooses memories as in the forward direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2vt.core.model.tracking import heads
from sam2vt.core.model.tracking.clips import Cohort, attend_images, attends, track_frame
from sam2vt.core.model.tracking.features import FrameFeatures
from sam2vt.core.model.tracking.frame_call import FrameCall, FrameOutput, TrackingRules, TrackingRun
from sam2vt.core.model.tracking.memory import frames_read_back
from sam2vt.core.model.tracking.postprocessing import as_stock
from sam2vt.core.model.tracking.prompt_inputs import PackedObject
from sam2vt.core.types import Prompt

ENDLESS = 1 << 30  # frames of a video whose length is not known
_LARGEST_LOGIT = 32.0  # of a mask that is mended, as SAM 2's predictor has it


class FramePrediction(NamedTuple):
    """The prediction for one frame, for the K objects that are tracked on it."""

    frame_index: int
    object_indices: list[int]  # K slots
    masks: Tensor  # [K, H, W] logits; [K, H/4, W/4] with stock's post-processing, which resizes them once
    ious: Tensor  # [K]
    object_score_logits: Tensor  # [K]


class TrackingSession:
    """Objects, each in its slot, and their memory.

    `look` at a frame, `show` objects on it, then `track` it; `mend` corrects the result. All calls of a frame
    run within `running(False)`. `num_frames` is that of the video, None if unknown.
    """

    def __init__(
        self,
        network: Any,
        encode: Callable[[Tensor], FrameFeatures],
        running: Callable[[bool], AbstractContextManager[Any]],
        rules: TrackingRules,
        num_frames: int | None = None,
        keeps_start: bool = False,
        starts_last: bool = False,
    ) -> None:
        """`keeps_start` keeps the memory of an object's first frames, which the way `back` reads.

        `starts_last` tracks an object from the last frame that it is shown on, not from the first.
        """
        self._run = TrackingRun(network, num_frames or ENDLESS, rules)
        self._encode, self._running = encode, running
        self._keeps_start, self._starts_last = keeps_start, starts_last
        self._cohorts: list[Cohort] = []
        self._removed: list[Cohort] = []  # which the way back still has
        self._shown: dict[tuple[int, int], FrameOutput] = {}  # (slot, frame) of objects shown ahead of time
        self._frame, self._image = 0, torch.empty(0)
        self._features: FrameFeatures | None = None
        self._outputs: dict[int, FrameOutput] = {}  # by slot, of the frame that was tracked last

    @property
    def slots(self) -> list[int]:
        """The slots of all objects."""
        return sorted(packed.slot for cohort in self._cohorts for packed in cohort.objects)

    def encode(self, images: Tensor) -> list[FrameFeatures]:
        """Return what `look` takes of each of the images [I, 3, H, W], which are encoded together."""
        device = next(self._run.network.parameters()).device
        with torch.no_grad(), self._within():
            features = self._encode(images.to(device))
        return [features.of([place]) for place in range(len(images))]

    def look(self, frame: int, image: Tensor, features: FrameFeatures | None = None) -> None:
        """Set the current frame, an image [3, H, W], uint8 or normalised.

        It is encoded when that is needed, unless `encode` has done it: then give the image's `features`.
        """
        self._frame, self._image, self._features, self._outputs = frame, image, features, {}

    def show(self, prompts: dict[int, Prompt], keep: int | None = None) -> None:
        """Show objects, by slot, on the frame: their masks there condition later frames.

        For each object the latest `keep` such frames stay in memory, by default all. An object that was never
        shown is new. Masks that were tracked on this frame are forgotten: call `track` again.
        """
        frame = self._frame
        known = {packed.slot for cohort in self._cohorts for packed in cohort.objects}
        self._divide(lambda packed: packed.slot in prompts)
        for cohort in self._cohorts:
            for packed in cohort.objects:
                if packed.slot in prompts:
                    packed.prompts[frame] = prompts[packed.slot]
        new = [PackedObject(0, slot, {frame: each}) for slot, each in prompts.items() if slot not in known]
        if new:
            self._cohorts.append(Cohort([packed.slot for packed in new], new))
        for cohort in self._cohorts:
            if prompts.keys() & set(cohort.rows):
                cohort.bank.others.pop(frame, None)
                self._forget_shown(cohort, keep)
        self._outputs = {slot: output for slot, output in self._outputs.items() if slot not in prompts}

    def condition(self) -> None:
        """Add the objects shown on the frame to memory ahead of time; `track` returns them later."""
        for output in self._track([c for c in self._cohorts if self._frame in c.conditioning_frames]):
            self._shown.update(((slot, self._frame), each) for slot, each in _by_slot(output).items())

    def track(self) -> FramePrediction:
        """Return the masks of all objects that have been shown, on the frame; each is tracked there once."""
        frame = self._frame
        for slot in self.slots:
            if (slot, frame) in self._shown:
                self._outputs[slot] = self._shown.pop((slot, frame))
        waiting = [c for c in self._cohorts if self._starts(c) <= frame and c.rows[0] not in self._outputs]
        for output in self._track(waiting):
            self._outputs.update(_by_slot(output))
        oldest = frame + 1 - frames_read_back(self._run.network)
        for cohort in self._cohorts:  # bounds the memory of a video of any length
            start = self._starts(cohort)
            after = start + frames_read_back(self._run.network) if self._keeps_start else None
            cohort.bank.forget_before(oldest, after)
        return self._prediction()

    def mend(self, slot: int, prompt: Prompt) -> FramePrediction:
        """Correct an object on the frame that was tracked last; return the frame's masks.

        As in SAM 2's predictor, the network sees its own mask, the clicks and the memory; on a conditioning
        frame it sees no memory.
        """
        cohort = next(each for each in self._cohorts if slot in each.rows)
        place = cohort.rows.index(slot)
        before, features = self._outputs[slot].masks[None], self._seen()
        conditions = self._frame in cohort.conditioning_frames
        if self._run.network.pred_obj_scores:
            before = heads.gate(before, self._outputs[slot].object_score_logits[:, None] > 0)
        with torch.no_grad(), self._within():
            call = FrameCall(
                run=self._run,
                frame=self._frame,
                rows=torch.tensor([slot], device=features.levels[0].device),
                features=features,
                attended=None if conditions else attend_images(self._run, features, [0]).of([0]),
                prompts=[prompt],
                corrected=False,
                bank=cohort.bank.changed(int, lambda entry: entry.of([place])),
                previous=before.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT),
            )
            output, entry = call.outputs(self._run.network.num_maskmem > 0)
        if entry is not None:
            entries = cohort.bank.conditioning if conditions else cohort.bank.others
            entries[self._frame] = entries[self._frame].replaced(place, entry)
        self._outputs[slot] = output
        return self._prediction()

    def remove(self, slot: int) -> None:
        """Stop tracking an object; an unknown one is not an error."""
        self._divide(lambda packed: packed.slot == slot)
        if self._keeps_start:
            self._removed += [cohort for cohort in self._cohorts if cohort.rows == [slot]]
        self._cohorts = [cohort for cohort in self._cohorts if cohort.rows != [slot]]
        self._shown = {key: output for key, output in self._shown.items() if key[0] != slot}
        self._outputs.pop(slot, None)

    def back(self, from_first: bool = True) -> TrackingSession:
        """Return a session for the way back from the frame where objects were first, or else last, shown."""
        run = self._run
        given = (run.network, self._encode, self._running, run.rules, run.num_frames)
        session = TrackingSession(*given, starts_last=from_first)
        for cohort in [*self._cohorts, *self._removed]:
            objects = [
                packed._replace(prompts={-frame: each for frame, each in packed.prompts.items()})
                for packed in cohort.objects
            ]
            bank = cohort.bank.changed(lambda frame: -frame, lambda entry: entry)
            session._cohorts.append(Cohort(list(cohort.rows), objects, bank))
        session._shown = {(slot, -frame): output for (slot, frame), output in self._shown.items()}
        return session

    def state(self) -> dict[str, Any]:
        """Return everything that later frames depend on, in tensors and plain containers."""
        return {
            "cohorts": [cohort.state() for cohort in self._cohorts],
            "removed": [cohort.state() for cohort in self._removed],
            "shown": [(*key, list(output)) for key, output in self._shown.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state`."""
        self._cohorts = [Cohort.restored(each) for each in state["cohorts"]]
        self._removed = [Cohort.restored(each) for each in state["removed"]]
        self._shown = {(slot, frame): FrameOutput(*given) for slot, frame, given in state["shown"]}

    def _starts(self, cohort: Cohort) -> int:
        """Return the frame from which on a cohort is tracked."""
        shown = cohort.conditioning_frames
        return shown[-1] + 1 if self._starts_last else shown[0]

    def _seen(self) -> FrameFeatures:
        """Return the features of the frame, encoded once."""
        if self._features is None:
            (self._features,) = self.encode(self._image.unsqueeze(0))
        return self._features

    def _within(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(self._running(False))
        stack.enter_context(as_stock(self._run.network) if self._run.rules.as_stock else nullcontext())
        return stack

    def _track(self, cohorts: Sequence[Cohort]) -> list[FrameOutput]:
        if not cohorts:
            return []
        frame, features = self._frame, self._seen()
        with torch.no_grad(), self._within():
            read = any(attends(self._run.network, cohort, frame) for cohort in cohorts)
            attended = attend_images(self._run, features, [0] if read else [])
            outputs = []
            for cohort in cohorts:
                outputs += track_frame(self._run, cohort, frame, [0] * len(cohort.rows), features, attended)
        return outputs

    def _divide(self, is_apart: Callable[[PackedObject], bool]) -> None:
        """Divide cohorts, whose objects share their conditioning frames, into those apart and the others."""
        divided: list[Cohort] = []
        for cohort in self._cohorts:
            places: dict[bool, list[int]] = {}
            for place, packed in enumerate(cohort.objects):
                places.setdefault(is_apart(packed), []).append(place)
            divided += [cohort] if len(places) == 1 else [cohort.of(each) for each in places.values()]
        self._cohorts = divided

    def _forget_shown(self, cohort: Cohort, keep: int | None) -> None:
        for old in cohort.conditioning_frames[: -keep if keep else 0]:
            cohort.bank.conditioning.pop(old, None)
            for packed in cohort.objects:
                packed.prompts.pop(old)

    def _prediction(self) -> FramePrediction:
        network, rules = self._run.network, self._run.rules
        outputs = [self._outputs[slot] for slot in sorted(self._outputs)]
        if not outputs:
            size = network.image_size // (4 if rules.as_stock else 1)
            empty = torch.empty(0, device=next(network.parameters()).device)
            return FramePrediction(self._frame, [], empty.reshape(0, size, size), empty, empty)
        return FramePrediction(
            self._frame,
            sorted(self._outputs),
            torch.cat([output.masks if rules.as_stock else output.masks_high_res for output in outputs]),
            torch.cat([output.ious for output in outputs]),
            torch.cat([output.object_score_logits for output in outputs]),
        )


def _by_slot(output: FrameOutput) -> dict[int, FrameOutput]:
    """Return the output of each object alone; its rows are slots."""
    return {
        slot: output._replace(
            rows=output.rows[place : place + 1],
            masks=output.masks[place : place + 1],
            masks_high_res=output.masks_high_res[place : place + 1],
            ious=output.ious[place : place + 1],
            object_score_logits=output.object_score_logits[place : place + 1],
            steps=[],
        )
        for place, slot in enumerate(output.rows.tolist())
    }
