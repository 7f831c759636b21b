"""Track one video from its prompts, forward and backward, with a state to save and resume from.

In the forward direction, all prompts of a stored video enter memory before the first frame is tracked, as in
SAM 2's predictor. So each frame sees later prompts too. This is impossible for live videos and for objects
that detections begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2vt.core.data.frames.images import resize_frame
from sam2vt.core.model.tracking.features import FrameFeatures
from sam2vt.core.model.tracking.session import FramePrediction
from sam2vt.core.prediction.ahead import ahead
from sam2vt.core.prediction.association import Association
from sam2vt.core.prediction.engine import Engine
from sam2vt.core.prediction.source import Source
from sam2vt.core.prediction.types import FrameMasks, ObjectPrompt, VideoPrompts
from sam2vt.core.types import Prompt
from sam2vt.errors import ConfigError

DIRECTIONS = ("forward", "backward", "both")
# Of an object that is shown again and again: SAM 2's training saw few of them, and memory is bounded.
MOST_SHOWN = 4
_CHUNK_BYTES = 1 << 26  # of frames that are decoded forward to be tracked backward
# Frames of a stored video that are encoded together: small ones alone leave a processor waiting for memory.
# More pixels take more memory and gain little.
_TOGETHER, _PIXELS_TOGETHER = 4, 3 * 256 * 256

_Frame = tuple[int, np.ndarray]


class Following:
    """Tracks the objects of one video; `masks` yields them per frame, `state` is for between two frames."""

    def __init__(
        self,
        engine: Engine,
        source: Source,
        prompts: VideoPrompts,
        direction: str = "forward",
        association: Association | None = None,
        on_frame: Any = None,
    ) -> None:
        """`on_frame` gets each source frame, uint8 RGB [height, width, 3], with its masks; of a live source
        that is continued also those before, with None.

        Raises ConfigError for a direction that the source does not have.
        """
        check_direction(direction, source, association is not None)
        self._engine, self._source, self._direction = engine, source, direction
        self._association, self._on_frame = association, on_frame
        self.names = dict(prompts.names)
        self._removals = prompts.removals
        self._shown: dict[int, list[ObjectPrompt]] = {}
        self._mends: dict[int, list[ObjectPrompt]] = {}
        for each in prompts.prompts:
            (self._mends if each.corrects else self._shown).setdefault(each.frame, []).append(each)
        self._session = engine.session(source.num_frames, keeps_start=direction == "both")
        self._backward = False
        self._next: int | None = None  # the frame that comes next; None: nothing has begun

    def masks(self) -> Iterator[FrameMasks]:
        """Yield the masks of each tracked frame: forward in order, then backward in reverse.

        Frames before the first prompt have no masks. With "both", an object may be on a frame in either
        direction. Raises DataError for frames that cannot be read.
        """
        if self._next is None:
            self._begin()
        if not self._backward:
            yield from self._forward()
            if self._direction == "forward":
                return
            self._turn()
        yield from self._back()

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`, made of tensors and plain containers."""
        return {
            "backward": self._backward,
            "next": self._next,
            "names": [[key, name] for key, name in self.names.items()],
            "association": None if self._association is None else self._association.state(),
            "session": self._session.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue as after the frame at which `state` was taken."""
        self._backward, self._next = state["backward"], state["next"]
        self.names = dict(state["names"])
        if self._association is not None:
            self._association.restore(state["association"])
        if self._backward:
            self._session = self._session.back(from_first=self._direction == "both")
        self._session.restore(state["session"])

    @property
    def _looks_ahead(self) -> bool:
        return not self._source.is_live

    def _begin(self) -> None:
        frames = sorted(self._shown)
        if self._looks_ahead:
            for frame in frames:
                self._session.look(frame, self._image(self._source.frame_at(frame)))
                self._session.show(self._prompts(self._shown[frame]))
                with self._engine.weights.autocast():
                    self._session.condition()
        if self._association is not None:
            frames = sorted({*frames, *self._association.detections})
        self._next = frames[0] if frames and self._looks_ahead else 0
        if self._direction == "backward":
            self._turn()

    def _forward(self) -> Iterator[FrameMasks]:
        assert self._next is not None
        source, whole = self._source, self._on_frame is not None
        size = None if whole else self._engine.size
        frames = source.frames(self._first_of_group, size, self._engine.options.as_stock, with_passed=whole)
        for index, frame, image, features in self._encoded(ahead(frames, interrupt=source.interrupt)):
            if index < self._next:  # tracked before
                if source.is_live:
                    self._on_frame(frame, None)
                continue
            for object_id in [key for key, last in self._removals.items() if last == index]:
                self._session.remove(object_id)
            self._session.look(index, image, features)
            masks = self._track(index)
            self._next = index + 1
            if whole:
                self._on_frame(frame, masks)
            yield masks

    def _turn(self) -> None:
        """Begin the way back, before the frame from which the way forward began."""
        from_first = self._direction == "both"
        starts: dict[int, int] = {}
        for frame, prompts in sorted(self._shown.items(), reverse=from_first):
            starts.update((each.object_id, frame) for each in prompts)
        # The frame of the prompt itself is of the way forward, where there is one.
        self._next = max(starts.values(), default=0) - from_first
        self._session = self._session.back(from_first)
        self._backward = True

    def _back(self) -> Iterator[FrameMasks]:
        assert self._next is not None
        last_of_group = self._first_of_group + self._together - 1
        for index, _, image, features in self._encoded(ahead(self._frames_back(last_of_group))):
            if index > self._next:  # tracked before
                continue
            self._session.look(-index, image, features)
            masks = self._track(index)
            self._next = index - 1
            yield masks

    def _frames_back(self, last: int) -> Iterator[_Frame]:
        """Yield (index, frame at the model's size) from `last` down to 0; decoders only run forward."""
        height, width = self._engine.size
        chunk = max(1, _CHUNK_BYTES // (height * width * 3))
        for stop in range(last + 1, 0, -chunk):
            start = max(0, stop - chunk)
            frames = self._source.frames(start, self._engine.size, self._engine.options.as_stock)
            yield from reversed(list(islice(frames, stop - start)))

    @property
    def _together(self) -> int:
        """How many frames are encoded together; a live video would have to wait for the others."""
        height, width = self._engine.size
        most = min(_TOGETHER, _PIXELS_TOGETHER // (height * width))
        return max(1, most) if self._looks_ahead else 1

    @property
    def _first_of_group(self) -> int:
        """The first frame of those that the next frame is encoded with.

        Groups are the same wherever tracking begins or continues, and so is the rounding of their features.
        """
        assert self._next is not None
        return self._next - self._next % self._together

    def _encoded(
        self, frames: Iterable[_Frame]
    ) -> Iterator[tuple[int, np.ndarray, Tensor, FrameFeatures | None]]:
        """Yield the index, the frame, and what the session looks at; one frame alone is encoded on demand."""
        for group in in_groups(frames, self._together):
            images = [self._image(frame) for _, frame in group]
            features: Sequence[FrameFeatures | None] = [None] * len(images)
            if self._together > 1:
                with self._engine.weights.autocast():
                    features = self._session.encode(torch.stack(images))
            for (index, frame), image, feature in zip(group, images, features):
                yield index, frame, image, feature

    def _image(self, frame: np.ndarray) -> Tensor:
        """Return a frame as the model takes it, uint8 [3, H, W]."""
        resized = resize_frame(frame, self._engine.size, self._engine.options.as_stock)
        return torch.from_numpy(resized.transpose(2, 0, 1).copy())

    def _track(self, index: int) -> FrameMasks:
        """Return the masks of the frame that was looked at, with what is shown and mended on it."""
        with self._engine.weights.autocast():
            if not self._looks_ahead and index in self._shown:
                self._session.show(self._prompts(self._shown[index]))
            masks = self._masks(self._session.track(), index)
            if self._association is not None and index in self._association.detections:
                prompts, names = self._association.at(index, masks)
                self.names |= names
                self._session.show(self._prompts(prompts), MOST_SHOWN)
                masks = self._masks(self._session.track(), index)
            for each in self._mends.get(index, ()):
                if each.object_id in masks.masks:
                    prompt = self._prompts([each])[each.object_id]
                    masks = self._masks(self._session.mend(each.object_id, prompt), index)
        for object_id in self._association.ended(masks) if self._association is not None else ():
            self._session.remove(object_id)
        return masks

    def _prompts(self, prompts: list[ObjectPrompt]) -> dict[int, Prompt]:
        size = self._source.height, self._source.width
        return {each.object_id: self._engine.prompt(each, *size) for each in prompts}

    def _masks(self, prediction: FramePrediction, index: int) -> FrameMasks:
        return self._engine.masks(prediction, index, self._source.height, self._source.width, self.names)


def in_groups(frames: Iterable[_Frame], number: int) -> Iterator[list[_Frame]]:
    """Yield frames that follow each other in groups, whose indices divided by `number` agree.

    An error is raised after the frames before it.
    """
    group: list[_Frame] = []
    try:
        for frame in frames:
            if group and frame[0] // number != group[0][0] // number:
                yield group
                group = []
            group.append(frame)
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def check_direction(direction: str, source: Source, from_detections: bool = False) -> None:
    """Raise ConfigError for an unknown direction, or one in which this source cannot be tracked."""
    if direction not in DIRECTIONS:
        raise ConfigError(f"direction={direction}: allowed are {', '.join(DIRECTIONS)}")
    if direction != "forward" and source.is_live:
        raise ConfigError(f"direction={direction}: {source.where} is live and has no way back; use forward")
    if direction != "forward" and from_detections:
        raise ConfigError(
            f"direction={direction}: detections begin objects as their frames come; use forward, or give "
            f"prompts"
        )
