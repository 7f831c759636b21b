"""Pictures of predictions against ground truth: a PNG grid and a short GIF per video, or of the worst."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.evaluation.canvas import (
    BAR,
    LABEL,
    MARGIN,
    Canvas,
    Entry,
    outline_icon,
    save_animation,
    swatch,
)
from sam2vt.core.evaluation.drawing import draw_masks, resize_masks
from sam2vt.core.evaluation.jf import both_masks, jaccard
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import VideoRecord

MILLISECONDS_PER_FRAME = 120
HEAD = BAR + LABEL  # pixels: height of the title and the legend


@dataclass(frozen=True)
class _Moment:
    """Masks of one chosen frame at the panels' size."""

    predictions: dict[int, np.ndarray]
    truth: dict[int, np.ndarray] | None  # None: not annotated
    j: float | None  # mean over the objects that either side shows, at the video's size


class OverlayRecorder:
    """Collects masks of a few evenly spaced frames of a video, and draws them afterwards.

    Pass it as `on_frame` to `evaluate_video`. It keeps masks of at most `num_grid_frames` annotated frames
    and `max_animation_frames` frames at `panel_px` (length of the longer side), whatever the video's
    length; `save` reads the frames themselves a second time. `style` is the setting of that name.
    """

    def __init__(
        self,
        record: VideoRecord,
        num_grid_frames: int = 5,
        max_animation_frames: int = 40,
        panel_px: int = 384,
        style: str = "paper",
    ) -> None:
        self.record = record
        self._style = style
        scale = panel_px / max(record.height, record.width)
        self._size = (max(1, round(record.height * scale)), max(1, round(record.width * scale)))
        self._grid_frames = _spread(record.annotated_frames, num_grid_frames)
        self._animation_frames = _spread(record.frames, max_animation_frames)
        self._chosen = {*self._grid_frames, *self._animation_frames}
        self._moments: dict[int, _Moment] = {}

    def __call__(
        self,
        frame_index: int,
        image: np.ndarray,
        predictions: Mapping[int, np.ndarray],
        ground_truth: Mapping[int, np.ndarray],
    ) -> None:
        if frame_index not in self._chosen:
            return
        annotated = frame_index in self.record.annotations
        self._moments[frame_index] = _Moment(
            resize_masks(predictions, self._size),
            resize_masks(ground_truth, self._size) if annotated else None,
            _mean_j(predictions, ground_truth) if annotated else None,
        )

    def save(self, folder: str | Path, note: str = "", prefix: str = "") -> list[Path]:
        """Write `<video id>.png` and `<video id>.gif` into the folder and return their paths.

        `note` is drawn beside the video's id, `prefix` begins the files' names. Write nothing and return []
        if no frame was seen. Raises DataError where the frames cannot be read.
        """
        seen = sorted(self._moments)
        if not seen:
            return []
        folder = Path(folder)
        images = dict(zip(seen, read_frames(self.record, seen, self._size)))
        name = prefix + quote(self.record.video_id, safe=" ")  # ids may hold slashes
        grid, animation = folder / f"{name}.png", folder / f"{name}.gif"
        grid_frames = [i for i in self._grid_frames if i in images] or _spread(seen, 5)
        with write_whole(grid) as written:
            self._grid(grid_frames, images, note).save(written, format="PNG")
        moving = [
            self._grid([i], images, note, side_by_side=True) for i in self._animation_frames if i in images
        ]
        with write_whole(animation) as written:
            save_animation(written, moving, MILLISECONDS_PER_FRAME)
        return [grid, animation]

    def _grid(
        self, frames: Sequence[int], images: Mapping[int, np.ndarray], note: str, side_by_side: bool = False
    ) -> Image.Image:
        """Frames as columns, ground truth above prediction; or both of one frame side by side."""
        height, width = self._size
        columns, rows = (2, 1) if side_by_side else (len(frames), 2)
        total_width = MARGIN + columns * (width + MARGIN)
        canvas = Canvas(HEAD + rows * (LABEL + height) + MARGIN, total_width, self._style)
        canvas.title(self.record.video_id, note, total_width)
        canvas.legend(self._legend(), MARGIN, BAR + LABEL / 2, total_width)
        for column, frame in enumerate(frames):
            for row, (panel, caption) in enumerate(self._panels(frame, images[frame])):
                across, down = (row, 0) if side_by_side else (column, row)
                x, y = MARGIN + across * (width + MARGIN), HEAD + down * (LABEL + height)
                canvas.panel(panel, caption, x, y)
        return canvas.image

    def _panels(self, frame: int, image: np.ndarray) -> list[tuple[np.ndarray, str]]:
        """Ground truth and prediction of a frame, each with its caption."""
        moment, places = self._moments[frame], self._places()
        masks = moment.truth or {}
        truth = draw_masks(image, masks, places)
        prediction = draw_masks(image, moment.predictions, places, masks.values())
        score = "" if moment.j is None else f" · J {moment.j:.2f}"
        known = "ground truth" if moment.truth is not None else "not annotated"
        return [(truth, f"frame {frame} · {known}"), (prediction, f"prediction{score}")]

    def _places(self) -> dict[int, int]:
        """Object id -> place in the order of colours."""
        ids = {i for m in self._moments.values() for i in (*m.predictions, *(m.truth or {}))}
        return {object_id: place for place, object_id in enumerate(sorted(ids))}

    def _legend(self) -> list[Entry]:
        places = self._places()
        names = self.record.names_of(places)
        objects = [
            (f"{key} {names[key]}" if key in names else f"object {key}", swatch(place))
            for key, place in places.items()
        ]
        return [("ground truth where it differs", outline_icon()), *objects]


class WorstVideos:
    """Keeps the recorders of the videos with the lowest scores, at most `number` of them at a time."""

    def __init__(self, number: int) -> None:
        self.number = number
        # A heap: its first entry, of the highest score and the newest of equals, is the next to leave.
        self._kept: list[tuple[float, int, OverlayRecorder, str]] = []
        self._count = 0

    def add(self, score: float, recorder: OverlayRecorder, note: str) -> None:
        """Take a video that was evaluated; one whose score is NaN counts as the best of all."""
        self._count += 1
        entry = (-math.inf if math.isnan(score) else -score, -self._count, recorder, note)
        heapq.heappush(self._kept, entry)
        if len(self._kept) > self.number:
            heapq.heappop(self._kept)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the overlays, named by their rank: 01_<video id>.png is of the lowest score."""
        paths = []
        for rank, (_, _, recorder, note) in enumerate(sorted(self._kept, reverse=True), start=1):
            paths += recorder.save(folder, note, f"{rank:02d}_")
        return paths


def _spread(frames: Sequence[int], number: int) -> list[int]:
    """At most `number` of the frames, evenly spaced, first and last among them."""
    if len(frames) <= number:
        return list(frames)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, number).round().astype(int)]


def _mean_j(predictions: Mapping[int, np.ndarray], truth: Mapping[int, np.ndarray]) -> float | None:
    """Mean J over the objects that either side shows; None where there is none."""
    pairs = [both_masks(predictions.get(i), truth.get(i)) for i in {*predictions, *truth}]
    scores = [jaccard(pred, gt) for pred, gt in pairs if pred.any() or gt.any()]
    return sum(scores) / len(scores) if scores else None
