"""Masks of an annotated frame, each checked when it is loaded.

An object that is not visible has no entry in what `load_masks` returns; whether that means that it is
known to be absent is `known_objects`' matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sam2vt.core.data.masks.codings import _decoded, _label_masks, _label_objects
from sam2vt.core.data.masks.label_images import (
    VOID,
    _read_checked,
    object_values,
)
from sam2vt.core.data.masks.object_images import _object_mask
from sam2vt.core.data.masks.packed import _packed_segmentations, _packed_void
from sam2vt.core.data.masks.segmentations import _segmentations, _united
from sam2vt.core.data.packed.reader import place_of, read_masks
from sam2vt.core.types import (
    FrameAnnotation,
    LabelImage,
    MaskletFrame,
    ObjectImages,
    PackedMasks,
    Segmentations,
    VideoRecord,
)
from sam2vt.errors import DataError


def load_masks(
    record: VideoRecord, frame_index: int, faults: list[DataError] | None = None
) -> dict[int, np.ndarray]:
    """The visible objects of an annotated frame: object id -> bool [height, width], ids ascending.

    Masks of different objects may overlap where each has a mask of its own. Void is no object. Raises
    DataError naming file, frame and object for a mask that is missing, damaged, of another size than its
    frame, or no mask at all; with `faults` it is told there, and the frame's other masks are read.
    """
    masks = {}
    for place, load in _loaders(record, frame_index):
        try:
            masks.update(load())
        except DataError as error:
            error.at(video=record.video_id, frame=frame_index, **place)
            if faults is None:
                raise
            faults.append(error)
    return {key: masks[key] for key in sorted(masks) if masks[key].any()}


def _loaders(
    record: VideoRecord, frame_index: int
) -> list[tuple[dict[str, Any], Callable[[], dict[int, np.ndarray]]]]:
    """What reads a frame's masks, each of which may fail on its own, with the file and object of each."""
    annotation = _annotation(record, frame_index)
    if isinstance(annotation, LabelImage):
        return [({"file": annotation.path}, partial(_label_masks, record, frame_index, annotation))]
    if isinstance(annotation, ObjectImages):
        return [
            ({"file": path, "object": key}, partial(_object_mask, record, frame_index, key, path))
            for key, path in annotation.paths.items()
        ]
    if isinstance(annotation, PackedMasks):
        objects, shard = _packed_segmentations(record, frame_index), place_of(record, frame_index).file
    else:
        objects, shard = _segmentations(record, annotation), None
    return [
        ({"file": shard or path, "object": key}, partial(_united, record, frame_index, key, path, found))
        for key, (path, found) in objects.items()
    ]


def load_void(record: VideoRecord, frame_index: int) -> np.ndarray | None:
    """Where an annotated frame is void, bool [height, width]; None where nothing is."""
    annotation = _annotation(record, frame_index)
    if isinstance(annotation, (Segmentations, MaskletFrame)):
        return None
    if isinstance(annotation, PackedMasks):
        return _packed_void(record, frame_index)
    if isinstance(annotation, LabelImage):
        if annotation.coding != "ids":
            void = _decoded(record, frame_index, annotation).void
            return void if void.any() else None
        paths = [annotation.path]
    else:
        paths = [annotation.paths[key] for key in sorted(annotation.paths)]
    void = np.zeros((record.height, record.width), dtype=bool)
    for path in paths:
        labels = _read_checked(record, frame_index, path)
        if isinstance(annotation, LabelImage):
            objects = _label_objects(record, frame_index, path, labels)
        else:
            objects = object_values(labels, path)
        if labels.pixels.dtype == np.uint8 and VOID in labels.values and VOID not in objects.values():
            void |= labels.pixels == VOID
    return void if void.any() else None


def known_objects(record: VideoRecord, frame_index: int) -> frozenset[int] | None:
    """The objects of which an annotated frame tells whether they are visible; None: all of them.

    With a file an object, only objects that have a file for the frame are known there.
    """
    annotation = _annotation(record, frame_index)
    if isinstance(annotation, LabelImage) and annotation.coding == "ctc":
        return _decoded(record, frame_index, annotation).known
    if isinstance(annotation, PackedMasks):
        return read_masks(record, frame_index).known
    return frozenset(annotation.paths) if isinstance(annotation, ObjectImages) else None


def find_object_ids(record: VideoRecord) -> tuple[int, ...]:
    """The ids of all objects on the usable annotated frames, ascending; reads every one of their masks.

    Raises DataError if there is no object at all.
    """
    found: set[int] = set()
    for frame_index in record.annotated_frames:
        found.update(load_masks(record, frame_index))
    if not found:
        raise DataError(
            f"{record.source}: video {record.video_id}: the {len(record.annotated_frames)} annotated frames "
            "show no object: all their masks are empty; leave the video out or annotate an object"
            f"{void_hint(record)}"
        )
    return tuple(sorted(found))


def void_hint(record: VideoRecord) -> str:
    """For an error that no object is visible: whether that is because what is drawn counts as void."""
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
