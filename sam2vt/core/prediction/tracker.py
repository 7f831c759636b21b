"""`Tracker`: track objects in new videos from Python, frame by frame or a whole source at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch

from sam2vt.core.data.frames.images import resize_frame
from sam2vt.core.prediction.engine import Engine, MaskOptions
from sam2vt.core.prediction.following import Following
from sam2vt.core.prediction.prompt_rules import frame_faults, object_faults, prompt_faults
from sam2vt.core.prediction.source import Source
from sam2vt.core.prediction.sources import open_sources
from sam2vt.core.prediction.types import Click, FrameMasks, ObjectPrompt, VideoPrompts
from sam2vt.core.prediction.weights import open_weights
from sam2vt.errors import ConfigError, DataError

_Points = Sequence[Sequence[float]]


class Tracker:
    """Tracks objects through a video from their prompts, with the weights of any checkpoint.

    `step` takes frames one by one, for instance from a camera. It cannot look ahead: a prompt counts from its
    frame on. `run` tracks a whole source and looks ahead, so that every frame sees all prompts. Coordinates
    are (x, y) in pixels of the source's frames, from the top left. Masks have the size of these frames.
    """

    def __init__(
        self,
        checkpoint: str | PathLike[str],
        *,
        device: str = "auto",
        precision: str = "32-true",
        postprocessing: str = "stock",
        resize: str = "area",
        overlaps: str = "resolve",
        presence: float = 0.5,
        fill_holes: int = 0,
        min_area: int = 0,
        config_path: str | None = None,
        image_size: int | None = None,
        base: str | None = None,
    ) -> None:
        """Load the weights.

        Args:
            checkpoint: a training checkpoint, a run's folder (its best), an export, or Meta's weights.
            device: auto, cpu, cuda, cuda:<index> or mps.
            precision: as the setting `trainer.precision`.
            postprocessing: as the setting `model.postprocessing`.
            resize: "area" as in training, or "stock" as SAM 2's predictor resizes frames.
            overlaps: "resolve" gives each pixel to the object with the largest logit; "keep" keeps overlaps.
            presence: the probability above which an object counts as visible.
            fill_holes: holes of up to this many pixels are filled; 0: off.
            min_area: islands of fewer pixels are removed; 0: off.
            config_path: the network's YAML, for files that contain weights only.
            image_size: side of the model's input in pixels; None: the size that the checkpoint was made for.
            base: the new place of the weights that the training started from, if they were moved.

        Raises ConfigError for values that are not allowed, CheckpointError for weights.
        """
        options = MaskOptions(resize, overlaps, presence, fill_holes, min_area)
        weights = open_weights(
            fspath(checkpoint),
            device=device,
            config_path=config_path,
            image_size=image_size,
            base=base,
            postprocessing=postprocessing,
            precision=precision,
        )
        self._engine = Engine(weights, options)
        self.reset()

    def reset(self) -> None:
        """Forget all objects and frames, to start with another video."""
        self._prompts: list[ObjectPrompt] = []
        self._names: dict[int, str] = {}
        self._removals: dict[int, int] = {}
        self._session = self._engine.session(None)
        self._size: tuple[int, int] | None = None
        self._clicks: dict[int, tuple[Click, ...]] = {}  # on the last frame, by object
        self.masks: FrameMasks | None = None  # of the last frame that `step` has seen

    @property
    def next_frame(self) -> int:
        """The index of the next frame of `step`, counted from 0."""
        return 0 if self.masks is None else self.masks.frame + 1

    def add_prompt(
        self,
        object_id: int,
        *,
        points: _Points = (),
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: Any = None,
        frame: int | None = None,
        name: str = "",
    ) -> None:
        """Show an object on a frame, by points and a box, or by a mask; a new id is a new object.

        Args:
            object_id: the object's number, 1 to 65535.
            points: (x, y) each.
            labels: one per point: 1 on the object, 0 beside it; None: all are on the object.
            box: x and y of the top left, then of the bottom right.
            mask: bool [height, width].
            frame: its index; None: the next frame of `step`, or the first of `run`.
            name: the object's name in the results.

        On the last frame of `step` it counts at once, and `masks` is updated. Raises DataError for prompts
        that contradict each other or are outside the frame, and for frames that `step` has passed.
        """
        frame = self.next_frame if frame is None else frame
        where = f"prompt of object {object_id} on frame {frame}"
        corners: Any = None if box is None else _finite(box, where)
        shown = None if mask is None else np.asarray(mask).astype(bool)
        given = ObjectPrompt(object_id, frame, _clicks(points, labels, where), corners, shown, where=where)
        _refuse(where, prompt_faults(given))
        of_object = [each for each in self._prompts if each.object_id == object_id]
        _refuse(
            where, (text for _, text in object_faults([*of_object, given], self._removals.get(object_id)))
        )
        if frame < self.next_frame - 1:
            raise DataError(
                f"{where}: step has seen {self.next_frame} frames and does not go back; show it on the next "
                f"frame, or use run, which looks ahead"
            )
        if self._size is not None:
            _refuse(where, frame_faults(given, *self._size, None))
        self._prompts.append(given)
        if name:
            self._names[object_id] = name
        if self.masks is not None and frame == self.masks.frame:
            self._show([given])

    def correct(self, object_id: int, points: _Points, labels: Sequence[int] | None = None) -> FrameMasks:
        """Correct an object's mask on the last frame of `step` by clicks; return the frame's masks.

        As in SAM 2's predictor, clicks add to earlier ones on this frame, and the network sees its own mask.
        The frames that follow remember the corrected mask. Raises DataError for an object that is not
        tracked.
        """
        where = f"correction of object {object_id}"
        if self.masks is None or self._size is None or object_id not in self.masks.masks:
            known = ", ".join(map(str, self._session.slots)) or "none"
            raise DataError(f"{where}: it is not tracked; objects on the last frame are {known}")
        given = ObjectPrompt(object_id, self.masks.frame, _clicks(points, labels, where), corrects=True)
        _refuse(where, [*prompt_faults(given), *frame_faults(given, *self._size, None)])
        before = self._clicks.get(object_id, ())
        with self._engine.weights.autocast():
            prompt = self._engine.prompt(given, *self._size, before)
            prediction = self._session.mend(object_id, prompt)
        self._clicks[object_id] = (*before, *given.clicks)
        return self._seen(prediction)

    def remove(self, object_id: int, frame: int | None = None) -> None:
        """Stop tracking an object, from the next frame of `step` on, or from `frame` on in `run`."""
        frame = self.next_frame if frame is None else frame
        self._removals[object_id] = frame
        if frame <= self.next_frame:
            self._session.remove(object_id)

    def step(self, frame: np.ndarray) -> FrameMasks:
        """Return the masks of the next frame, uint8 RGB [height, width, 3].

        Raises DataError for a frame of another type or size, and for prompts outside the frame.
        """
        index = self.next_frame
        self._check_frame(frame, index)
        assert self._size is not None
        due = [each for each in self._prompts if each.frame == index]
        for each in due:
            _refuse(each.where, frame_faults(each, *self._size, None))
        for object_id in [key for key, last in self._removals.items() if last == index]:
            self._session.remove(object_id)
        image = resize_frame(frame, self._engine.size, self._engine.options.as_stock)
        self._session.look(index, torch.from_numpy(image.transpose(2, 0, 1).copy()))
        self.masks, self._clicks = FrameMasks(index, *self._size, ()), {}
        return self._show(due)

    def run(self, source: str | PathLike[str] | Source, direction: str = "forward") -> Iterator[FrameMasks]:
        """Yield the masks of each frame of a source from the first prompt on; every frame sees all prompts.

        `source` is a single video, in any form that `sam2vt predict` takes. "backward" yields frames in
        reverse, from the last prompt to the start. "both" first goes forward from the first prompt, then
        back. On the way back, frames before the prompt of a later object come once more, with that object.
        Raises DataError for frames that cannot be read and prompts that do not fit, ConfigError for a
        direction that a live source does not have.
        """
        with self._opened(source) as video:
            for each in self._prompts:
                size = video.height, video.width
                _refuse(each.where, frame_faults(each, *size, video.num_frames))
            prompts = VideoPrompts(tuple(self._prompts), self._names, self._removals)
            yield from Following(self._engine, video, prompts, direction).masks()

    def _opened(self, source: str | PathLike[str] | Source) -> Source:
        if not self._prompts:
            raise DataError("run: there is no prompt, so there is nothing to track; call add_prompt first")
        if isinstance(source, Source):
            return source
        videos = open_sources(fspath(source))
        if len(videos) != 1:
            raise DataError(
                f"{fspath(source)}: holds {len(videos)} videos, such as {videos[0].video_id}; name one of "
                f"them, or open them by `sources.open_sources`"
            )
        return videos[0]

    def _show(self, prompts: list[ObjectPrompt]) -> FrameMasks:
        assert self._size is not None
        shown = {each.object_id: self._engine.prompt(each, *self._size) for each in prompts}
        with self._engine.weights.autocast():
            self._session.show(shown)
            prediction = self._session.track()
        # What is clicked next on this frame adds to it; a mask or a box stands alone.
        self._clicks.update({each.object_id: each.clicks for each in prompts})
        return self._seen(prediction)

    def _seen(self, prediction: Any) -> FrameMasks:
        assert self.masks is not None
        where = (self.masks.frame, self.masks.height, self.masks.width)
        self.masks = self._engine.masks(prediction, *where, self._names)
        return self.masks

    def _check_frame(self, frame: np.ndarray, index: int) -> None:
        is_image = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
        if not is_image or frame.shape[2] != 3 or not frame.size:
            got = f"{getattr(frame, 'dtype', type(frame).__name__)} {getattr(frame, 'shape', '')}"
            raise DataError(f"frame {index}: is {got}; give uint8 RGB [height, width, 3]", frame=index)
        size = (frame.shape[0], frame.shape[1])
        if self._size not in (None, size):
            assert self._size is not None
            raise DataError(
                f"frame {index}: is {size[1]}x{size[0]} (width x height), those before were "
                f"{self._size[1]}x{self._size[0]}; resize it, or reset for another video",
                frame=index,
            )
        self._size = size


def _clicks(points: _Points, labels: Sequence[int] | None, where: str) -> tuple[Click, ...]:
    given = [_finite(each, where) for each in np.asarray(points, dtype=float).reshape(-1, 2)]
    marks = [1] * len(given) if labels is None else [int(each) for each in labels]
    if len(marks) != len(given) or not set(marks) <= {0, 1}:
        raise DataError(
            f"{where}: labels {marks} for {len(given)} points; give one each: 1 on the object, 0 beside it"
        )
    return tuple(Click(x, y, mark == 1) for (x, y), mark in zip(given, marks))


def _finite(values: Any, where: str) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if not all(map(isfinite, found)):
        raise DataError(f"{where}: points or box {found}: allowed are finite numbers, in pixels")
    return found


def _refuse(where: str, faults: Any) -> None:
    found = list(faults)
    if found:
        raise ConfigError.listing(where, found) if len(found) > 1 else DataError(f"{where}: {found[0]}")
