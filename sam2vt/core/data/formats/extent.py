"""Find polygons outside their frames, whose frames were resized or cropped after annotation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError

_MOST_OUTSIDE = 0.25  # of a video's polygons: some programs draw on an object that leaves the frame


class _Extent(NamedTuple):
    """Where the polygons of an object on a frame are, in shares of the frame's width and height."""

    frame: int
    object: int
    least: tuple[float, float]
    most: tuple[float, float]

    @property
    def centre(self) -> tuple[float, float]:
        return (self.least[0] + self.most[0]) / 2, (self.least[1] + self.most[1]) / 2


def outside_frames(record: VideoRecord) -> str | None:
    """Return a remark if polygons of a video have their centre outside its frames.

    Raises DataError if many are too far right or below and none is left or above: they were drawn on
    larger frames.
    """
    found = list(_extents(record))
    outside = [each for each in found if min(each.centre) < 0 or max(each.centre) > 1]
    if not outside:
        return None
    worst = max(outside, key=lambda each: max(each.most))
    file = record.frame_paths[worst.frame] if record.frame_paths else record.video_path
    x, y = worst.most[0] * record.width, worst.most[1] * record.height
    text = (
        f"{record.source}: video {record.video_id}: {len(outside)} of {len(found)} polygons have their "
        f"centre outside the frame, such as object {worst.object}, up to x = {x:g}, y = {y:g} on {file}, "
        f"which is {record.width}x{record.height}"
    )
    if len(outside) <= _MOST_OUTSIDE * len(found) or any(min(each.centre) < 0 for each in outside):
        return f"{text}; what is outside is cut off: check that frames were not resized or cropped"
    raise DataError(
        f"{text}, {max(worst.most):.3g} times less: they are drawn on larger frames. Use these, scale the "
        "polygons as the frames were, or remove those of objects that have left",
        frame=worst.frame,
    )


def _extents(record: VideoRecord) -> Iterator[_Extent]:
    size = (record.width, record.height)
    for frame, annotation in record.annotations.items():
        objects = annotation.objects if isinstance(annotation, Segmentations) else {}
        for key, segmentations in objects.items():
            polygons = [each for found in segmentations if isinstance(found, list) for each in found]
            # What is no polygon is told when the mask is read.
            with suppress(TypeError, ValueError, LookupError, OverflowError):
                least, most = (
                    tuple(of(of(each[axis::2]) for each in polygons) / size[axis] for axis in (0, 1))
                    for of in (min, max)
                )
                yield _Extent(frame, key, least, most)  # type: ignore[arg-type]
