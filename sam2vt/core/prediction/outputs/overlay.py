"""Write videos with masks drawn on their frames, which browsers can play."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.writing.encoding import video_encoder
from sam2vt.core.evaluation.drawing import draw_labels, draw_masks
from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.output import Output, Plan
from sam2vt.core.prediction.types import FrameMasks
from sam2vt.core.storage.disk import unwritable, write_whole
from sam2vt.errors import DataError

# A folder of its own: beside SA-V's <video>_manual.json it would be taken for the source.
_FOLDER, _ENDING = "overlay", ".mp4"
_CODEC = "libx264"
_CRF = 20  # sharp edges at a tenth of what a lossless video takes
_SLOWEST, _FASTEST, _USUAL = 1.0, 240.0, 24.0  # frames per second that players show


def overlay_path(folder: Path, name: str) -> Path:
    """Return the path of a video's overlay in the folder of outputs."""
    return folder / _FOLDER / f"{name}{_ENDING}"


class OverlayWriter:
    """Writes an mp4 frame by frame, as a context manager: H.264 in yuv420p, its index first.

    An object has one colour throughout the video, and its name or id beside it. The file appears when the
    block ends without an error, unless there was no frame. Every method raises DataError for errors of the
    disk or the encoder.
    """

    def __init__(self, path: Path, fps: float = _USUAL) -> None:
        self.path = path
        self._fps = min(max(fps, _SLOWEST), _FASTEST) if math.isfinite(fps) else _USUAL
        self._places: dict[int, int] = {}  # object id -> place in the order of colours
        self._stack = ExitStack()
        self._add: Callable[[np.ndarray], None] | None = None

    def add(self, frame: np.ndarray, masks: FrameMasks) -> None:
        """Draw the masks on the next frame, uint8 RGB [height, width, 3], and write it."""
        with self._told():
            if self._add is None:
                written = self._stack.enter_context(write_whole(self.path, keep_suffix=True))
                encoder = video_encoder(
                    written, self._fps, _CRF, container_options={"movflags": "+faststart"}
                )
                self._add = self._stack.enter_context(encoder)
            self._add(self._drawn(frame, masks))

    def _drawn(self, frame: np.ndarray, masks: FrameMasks) -> np.ndarray:
        for each in masks.objects:
            self._places.setdefault(each.object_id, len(self._places))
        visible = [each for each in masks.objects if each.mask.any()]
        words = label_texts(masks)
        drawn = draw_masks(frame, {each.object_id: each.mask for each in visible}, self._places)
        texts = (
            (words[each.object_id], self._places[each.object_id], _corner(each.mask)) for each in visible
        )
        return draw_labels(drawn, texts)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # FFmpeg's errors of the disk are among them
            raise unwritable(self.path, error) from None
        except av.FFmpegError as error:
            raise DataError(f"{self.path}: cannot be encoded: {error}; leave out overlay") from None

    def __enter__(self) -> OverlayWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        with self._told():
            self._stack.__exit__(*error)


def label_texts(masks: FrameMasks) -> dict[int, str]:
    """Return object id -> its name, its id if it has none, or both if several objects share a name."""
    counts = Counter(each.name for each in masks.objects)
    return {
        each.object_id: each.name
        if counts[each.name] == 1 and each.name
        else f"{each.name} {each.object_id}".strip()
        for each in masks.objects
    }


def _corner(mask: np.ndarray) -> tuple[int, int]:
    left, top, _, _ = cv2.boundingRect(np.ascontiguousarray(mask, dtype=np.uint8))
    return left, top


def _write(video: TrackedVideo, folder: Path) -> None:
    """Read the frames a second time; a live source's overlay is written while it is tracked."""
    path = overlay_path(folder, video.name)
    if video.record is None:
        if path.exists():
            return
        raise DataError(
            f"{path}: cannot be drawn: the frames of {video.video_id} came once, and are gone; leave out "
            "overlay",
            video=video.video_id,
        )
    frames = iterate_frames(replace(video.record, frame_range=None))
    with OverlayWriter(path, video.fps) as writer:
        # Masks first: a source may have more frames than could be tracked.
        for masks, frame in zip(video.frames(), frames):
            writer.add(frame, masks)


def _refusal(plan: Plan) -> str | None:
    if _CODEC in av.codecs_available:
        return None
    return (
        f"PyAV was built without {_CODEC}, and browsers play no other codec that it has; install PyAV's "
        "wheel (pip install --force-reinstall av), or leave out overlay"
    )


OVERLAY = Output(
    f"{_FOLDER}/<video>{_ENDING}, masks drawn on the video, with names or ids (H.264)",
    _write,
    refusal=_refusal,
)
