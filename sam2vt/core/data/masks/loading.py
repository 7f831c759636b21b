"""Load the masks of an annotated frame, and check each.

`load_masks` returns no entry for an object that is not visible; `known_objects` says whether it is then known
to be absent.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sam2vt.core.data.masks import label_images, masklets, object_images, packed
from sam2vt.core.data.masks.figures import figure_to_mask
from sam2vt.core.data.masks.kind import Kind, held_objects, held_void
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.types import (
    Figures,
    FrameAnnotation,
    LabelImage,
    MaskletFrame,
    ObjectImages,
    PackedMasks,
    Segmentations,
    VideoRecord,
)
from sam2vt.errors import DataError

KINDS: dict[type[FrameAnnotation], Kind] = {
    LabelImage: Kind(label_images.load, label_images.void, label_images.known),
    ObjectImages: Kind(object_images.load, object_images.void, object_images.known),
    Segmentations: Kind(held_objects(segmentation_to_mask), held_void(segmentation_to_mask)),
    Figures: Kind(held_objects(figure_to_mask)),
    MaskletFrame: Kind(masklets.load),
    PackedMasks: Kind(packed.load, packed.void, packed.known),
}


def load_masks(
    record: VideoRecord, frame_index: int, faults: list[DataError] | None = None
) -> dict[int, np.ndarray]:
    """Return the visible objects of an annotated frame: object id -> bool [height, width], ids ascending.

    Masks of different objects may overlap if each has its own mask. Void is not an object. Raises DataError
    naming file, frame and object for a mask that is missing, damaged, of another size than its frame, or not
    a mask. With `faults`, the error is appended there, and the other masks are read.
    """
    annotation = _annotation(record, frame_index)
    masks = {}
    for place, load in KINDS[type(annotation)].load(record, frame_index, annotation):
        try:
            masks.update(load())
        # Some readers know the object better than we do here; `at` fills only what is missing.
        except DataError as error:
            error.at(video=record.video_id, frame=frame_index, **place)
            if faults is None:
                raise
            faults.append(error)
    return {key: masks[key] for key in sorted(masks) if masks[key].any()}


def iterate_first_masks(record: VideoRecord) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (frame index, object id, mask bool [height, width]) of each object's first visible frame.

    Masks are read frame by frame until all objects that the record names have been seen. Finally raises
    DataError if no object is ever visible.
    """
    seen: set[int] = set()
    for index in record.annotated_frames:
        # Most videos show all objects early: later masks need not be read.
        if record.object_ids is not None and seen >= set(record.object_ids):
            break
        for object_id, mask in load_masks(record, index).items():
            if object_id not in seen:
                seen.add(object_id)
                yield index, object_id, mask
    if not seen:
        raise DataError(
            f"video {record.video_id} ({record.source}): no object is visible on any of its "
            f"{len(record.annotated_frames)} annotated frames, so there is nothing to prompt"
            f"{void_hint(record)}"
        )


def load_void(record: VideoRecord, frame_index: int) -> np.ndarray | None:
    """Return the void pixels of an annotated frame, bool [height, width]; None if there are none."""
    annotation = _annotation(record, frame_index)
    void = KINDS[type(annotation)].void(record, frame_index, annotation)
    return void if void is not None and void.any() else None


def known_objects(record: VideoRecord, frame_index: int) -> frozenset[int] | None:
    """Return the objects whose visibility an annotated frame states; None means all of them."""
    annotation = _annotation(record, frame_index)
    return KINDS[type(annotation)].known(record, frame_index, annotation)


def find_object_ids(record: VideoRecord) -> tuple[int, ...]:
    """Return the ids of all objects on the usable annotated frames, ascending; reads every one of their
    masks.

    Raises DataError if there is no object at all.
    """
    found: set[int] = set()
    for frame_index in record.annotated_frames:
        found.update(load_masks(record, frame_index))
    if not found:
        raise DataError(
            f"{record.source}: video {record.video_id}: the {len(record.annotated_frames)} annotated frames "
            f"show no object: all masks are empty; leave the video out or annotate one{void_hint(record)}"
        )
    return tuple(sorted(found))


def void_hint(record: VideoRecord) -> str:
    """Return a hint for the error that no object is visible, if the drawn areas count as void."""
    if all(load_void(record, frame_index) is None for frame_index in record.annotated_frames):
        return ""
    return (
        ". What is drawn there is void: in a palette image with colours 255 is no object, even alone; save "
        "objects as 1, 2, 3, or a single one as 0 and 255 in a gray image"
    )


def _annotation(record: VideoRecord, frame_index: int) -> FrameAnnotation:
    if frame_index not in record.annotations:
        raise DataError(
            f"{record.source}: video {record.video_id}: frame {frame_index} is not annotated; "
            f"{len(record.annotations)} of its {record.num_frames} frames are"
        )
    return record.annotations[frame_index]
