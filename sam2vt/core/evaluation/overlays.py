"""Pictures of predictions against ground truth: a PNG grid and a short GIF a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.evaluation.drawing import (
    DIM_TEXT,
    Canvas,
    draw_masks,
    fit_text,
    resize_masks,
    save_animation,
)
from sam2vt.core.evaluation.jf import jaccard
from sam2vt.core.types import VideoRecord

MARGIN, BAR, LABEL = 10, 26, 22  # pixels: around panels, height of title and of captions
MILLISECONDS_A_FRAME = 120


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
    length; the frames themselves are read again by `save`.
    """

    def __init__(
        self,
        record: VideoRecord,
        num_grid_frames: int = 5,
        max_animation_frames: int = 40,
        panel_px: int = 384,
    ) -> None:
        self.record = record
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

    def save(self, folder: str | Path, note: str = "") -> list[Path]:
        """Writes `<video id>.png` and `<video id>.gif` into the folder and returns their paths.

        `note` is written beside the video's id. Writes nothing, and returns [], if no frame was seen.
        Raises DataError where the frames cannot be read again.
        """
        seen = sorted(self._moments)
        if not seen:
            return []
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        images = dict(zip(seen, read_frames(self.record, seen, self._size)))
        name = quote(self.record.video_id, safe=" ")  # ids may hold slashes
        grid, animation = folder / f"{name}.png", folder / f"{name}.gif"
        grid_frames = [i for i in self._grid_frames if i in images] or _spread(seen, 5)
        self._grid(grid_frames, images, note).save(grid, format="PNG")
        moving = [
            self._grid([i], images, note, side_by_side=True) for i in self._animation_frames if i in images
        ]
        save_animation(animation, moving, MILLISECONDS_A_FRAME)
        return [grid, animation]

    def _grid(
        self, frames: Sequence[int], images: Mapping[int, np.ndarray], note: str, side_by_side: bool = False
    ) -> Image.Image:
        """Frames as columns, ground truth above prediction; or of one frame both side by side."""
        height, width = self._size
        columns, rows = (2, 1) if side_by_side else (len(frames), 2)
        total = (MARGIN + columns * (width + MARGIN), BAR + rows * (LABEL + height) + MARGIN)
        canvas = Canvas(height=total[1], width=total[0])
        self._title(canvas, note, total[0])
        for column, frame in enumerate(frames):
            for row, (panel, caption) in enumerate(self._panels(frame, images[frame])):
                across, down = (row, 0) if side_by_side else (column, row)
                x, y = MARGIN + across * (width + MARGIN), BAR + down * (LABEL + height)
                canvas.text(fit_text(caption, width, 13), x, y + LABEL / 2, 13, DIM_TEXT)
                canvas.paste(panel, x, y + LABEL)
        return canvas.image()

    def _panels(self, frame: int, image: np.ndarray) -> list[tuple[np.ndarray, str]]:
        """Ground truth and prediction of a frame, each with its caption."""
        moment, places = self._moments[frame], self._places()
        truth = draw_masks(image, moment.truth or {}, places)
        prediction = draw_masks(image, moment.predictions, places, (moment.truth or {}).values())
        score = "" if moment.j is None else f" · J {moment.j:.2f}"
        known = "ground truth" if moment.truth is not None else "not annotated"
        return [(truth, f"frame {frame} · {known}"), (prediction, f"prediction{score}")]

    def _places(self) -> dict[int, int]:
        """Object id -> place in the order of colours."""
        ids = {i for m in self._moments.values() for i in (*m.predictions, *(m.truth or {}))}
        return {object_id: place for place, object_id in enumerate(sorted(ids))}

    def _title(self, canvas: Canvas, note: str, width: int) -> None:
        title = fit_text(self.record.video_id, width / 2, 15)
        x = canvas.text(title, MARGIN, MARGIN / 2 + BAR / 2, 15) + 14
        if note:
            x = (
                canvas.text(fit_text(note, width - x - MARGIN, 13), x, MARGIN / 2 + BAR / 2, 13, DIM_TEXT)
                + 14
            )
        if len(self._places()) > 1:
            canvas.legend(self._places(), x, MARGIN / 2 + BAR / 2, width, 12)


def _spread(frames: Sequence[int], number: int) -> list[int]:
    """At most `number` of the frames, evenly spaced, first and last among them."""
    if len(frames) <= number:
        return list(frames)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, number).round().astype(int)]


def _mean_j(predictions: Mapping[int, np.ndarray], truth: Mapping[int, np.ndarray]) -> float | None:
    scores = []
    for object_id in {*predictions, *truth}:
        pred, gt = predictions.get(object_id), truth.get(object_id)
        if pred is None or gt is None:
            some = gt if pred is None else pred
            scores += [0.0] if some is not None and some.any() else []
        elif pred.any() or gt.any():
            scores.append(jaccard(pred, gt))
    return sum(scores) / len(scores) if scores else None
