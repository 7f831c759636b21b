"""Write predicted masks of an evaluation as in DAVIS: a palette PNG per frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam2vt.core.data.masks.labels import VOID
from sam2vt.core.data.writing.conversion import all_object_ids
from sam2vt.core.data.writing.davis import LARGEST_ID, encode_labels, paint_labels
from sam2vt.core.data.writing.folder import folder_names, frame_stems, write_file
from sam2vt.core.evaluation.video import Masks, OnFrame
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError


class MaskFolder:
    """Writes `<video>/<frame>.png` below a folder, at the video's size and with the names of its frames.

    A pixel is an object's id, in 8 bits, or in 16 bits if the video has an id of at least 255. Raises
    DataError for two videos with the same name.
    """

    def __init__(self, folder: Path, records: Sequence[VideoRecord]) -> None:
        self.folder = folder
        self._names = folder_names(record.video_id for record in records)

    def writer(self, record: VideoRecord) -> OnFrame:
        """Return the `on_frame` of `evaluate_video` that writes the frames of a video.

        Raises DataError for an object whose id cannot be a pixel's value.
        """
        objects = all_object_ids(record)
        if wrong := [key for key in objects if not 0 < key <= LARGEST_ID]:
            raise DataError(
                f"{record.source}: video {record.video_id}, object {wrong[0]}: cannot be a pixel value in "
                f"--save-masks; allowed are 1 to {LARGEST_ID}: give the object another number, or leave "
                f"--save-masks out",
                video=record.video_id,
                object=wrong[0],
            )
        folder, stems = self.folder / self._names[record.video_id], frame_stems(record)
        is_deep = max(objects) >= VOID  # in 8 bits that value means void

        def write(frame: int, image: np.ndarray, predictions: Masks, truth: Masks) -> None:
            labels = paint_labels((record.height, record.width), predictions, is_deep)
            write_file(folder / f"{stems[frame]}.png", encode_labels(labels))

        return write
