"""Read the frames of a record from images, a video file or a pack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sam2vt.core.data.frames.images import read_rgb, resize_frame
from sam2vt.core.data.frames.video import frame_index, pixels_of, video_source
from sam2vt.core.data.packed.reader import iterate_images, place_of
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError, located


def read_frames(
    record: VideoRecord, indices: Sequence[int], size: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the frames of these indices, uint8 RGB [K, h, w, 3], in the order asked for; repeats are
    allowed.

    Indices count from the start of the whole video. `size` is (height, width) to resize to while
    decoding; None keeps the record's. Raises DataError naming the file and the frame.
    """
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        if not 0 <= index < record.num_frames:
            raise DataError(
                f"{record.video_path or record.source}: video {record.video_id} has no frame {index}; "
                f"it has frames 0 to {record.num_frames - 1}",
                frame=index,
            )
        places.setdefault(int(index), []).append(place)
    height, width = size or (record.height, record.width)
    frames = np.empty((len(indices), height, width, 3), dtype=np.uint8)
    # Ascending, so that a video is decoded once, whatever the order asked for.
    for index, frame in _frames_of(record, sorted(places), size):
        frames[places[index]] = frame
    return frames


def iterate_frames(
    record: VideoRecord, size: tuple[int, int] | None = None, as_stock: bool = False
) -> Iterator[np.ndarray]:
    """Yield each frame of `record.frames` in order, uint8 RGB [h, w, 3], one at a time in constant memory.

    `as_stock` as for `resize_frame`.
    """
    for _, frame in _frames_of(record, record.frames, size, as_stock):
        yield frame


def _decodable_from(record: VideoRecord, damaged: int) -> int:
    """Return the first frame after a damaged one that does not need it: an image is alone, a video has key
    frames.

    Beyond the last frame where there is none.
    """
    source = video_source(record)
    if source is None:
        return damaged + 1
    index = frame_index(source)
    key = index.key_place(damaged) + 1
    is_known = index.times is not None and key < len(index.key_times)
    return index.first_frame(key) if is_known else record.num_frames


def check_frames(record: VideoRecord, targets: Sequence[int]) -> Iterator[DataError | None]:
    """Decode ascending frames: None for each that is sound, an error for each that is damaged.

    Frames that need a damaged one are skipped; so are all later ones if decoding cannot start behind it.
    """
    told: set[int | None] = set()
    while targets:
        try:
            for _ in _frames_of(record, targets, None):
                yield None
            return
        except DataError as error:
            damaged = error.place["frame"]
            # A frame that fails twice would be asked for without end.
            if damaged in told:
                return
            told.add(damaged)
            yield error
            start = record.num_frames if damaged is None else _decodable_from(record, damaged)
            targets = [each for each in targets if each >= start]


def _frames_of(
    record: VideoRecord, targets: Sequence[int], size: tuple[int, int] | None, as_stock: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, pixels) of ascending frame indices."""
    source = video_source(record)
    pixels = _images_of(record, targets) if source is None else pixels_of(source, targets)
    for index, where, frame in pixels:
        # Some encoders change the size within a file; masks would not fit.
        if frame.shape[:2] != (record.height, record.width):
            raise DataError(
                f"{where}: frame {index} is {frame.shape[1]}x{frame.shape[0]} (width x height), the video "
                f"{record.video_id} is {record.width}x{record.height}; all frames must have one size: "
                "resize the others, or cut the video there",
                file=_file_of(record, index),
                frame=index,
            )
        yield index, frame if size is None else resize_frame(frame, size, as_stock)


def _images_of(record: VideoRecord, targets: Sequence[int]) -> Iterator[tuple[int, str, np.ndarray]]:
    depth, paths = record.intensity_range, record.frame_paths
    images: Iterator[tuple[int, str, bytes | None]]
    if paths is None:
        images = iterate_images(record, targets)
    else:
        images = ((index, paths[index], None) for index in targets)
    for index, where, data in images:
        with located(frame=index, file=_file_of(record, index)):
            pixels = read_rgb(where, depth, data)
        yield index, where, pixels


def _file_of(record: VideoRecord, index: int) -> str | None:
    if record.packed is not None:
        return place_of(record, index).file
    return record.video_path or (record.frame_paths or {index: None})[index]
