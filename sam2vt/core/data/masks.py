"""Masks of an annotated frame, each checked when it is loaded.

An object that is not visible has no entry in what `load_masks` returns; whether that means that it is
known to be absent is `known_objects`' matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from sam2vt.core.data.codings import Decoded, decode_labels
from sam2vt.core.data.figures import FIGURE, figure_to_mask
from sam2vt.core.data.images import image_size
from sam2vt.core.data.label_images import VOID, Labels, object_values, read_labels
from sam2vt.core.data.masklets import Masklets, number_objects, read_masklets
from sam2vt.core.data.packing.reader import place_of, read_masks
from sam2vt.core.data.rle import segmentation_to_mask
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


def _where(record: VideoRecord, frame_index: int) -> str:
    return f"video {record.video_id}, frame {frame_index}"


def _read_checked(record: VideoRecord, frame_index: int, path: str) -> Labels:
    """The label image, of its frame's size."""
    try:
        _check_size(record, path)
        return read_labels(path)
    except DataError as error:
        raise DataError(f"{error} ({_where(record, frame_index)})", **error.place) from None


def _check_size(record: VideoRecord, path: str) -> None:
    height, width = image_size(path, "mask")
    if (height, width) != (record.height, record.width):
        raise DataError(
            f"{path}: the mask is {width}x{height} (width x height), its frame is {record.width}x"
            f"{record.height}; both must have one size: resize the mask by nearest neighbour"
        )


def _decoded(record: VideoRecord, frame_index: int, annotation: LabelImage) -> Decoded:
    try:
        _check_size(record, annotation.path)
        return decode_labels(record, annotation)
    except DataError as error:
        raise DataError(f"{error} ({_where(record, frame_index)})", **error.place) from None


def _label_objects(record: VideoRecord, frame_index: int, path: str, labels: Labels) -> dict[int, int]:
    """Object id -> pixel value of a label image that shows several objects."""
    alone = labels.values == (VOID,) and not labels.coloured
    try:
        return object_values(labels, path, _is_binary(record) if alone else None)
    except DataError as error:
        raise DataError(f"{error} ({_where(record, frame_index)})", **error.place) from None


def _label_masks(record: VideoRecord, frame_index: int, annotation: LabelImage) -> dict[int, np.ndarray]:
    if annotation.coding != "ids":
        return _decoded(record, frame_index, annotation).masks
    labels = _read_checked(record, frame_index, annotation.path)
    objects = _label_objects(record, frame_index, annotation.path, labels)
    strange = sorted(set(objects) - set(record.object_ids)) if record.object_ids is not None else []
    if strange:
        raise DataError(
            f"{annotation.path}: the mask shows object {strange[0]}, which "
            f"{record.extra.get('meta', 'the record')} does not list ({_where(record, frame_index)}); "
            "add it there or correct the mask",
            object=strange[0],
        )
    return {key: labels.pixels == value for key, value in objects.items()}


def _is_binary(record: VideoRecord) -> bool:
    """Whether 255 is the object of this video: its first annotated frame has no other id."""
    first = record.annotations[min(record.annotations)]
    assert isinstance(first, LabelImage)
    return _values(first.path) in ((), (VOID,))


@lru_cache(maxsize=4096)
def _values(path: str) -> tuple[int, ...]:
    return read_labels(path).values


def _object_mask(record: VideoRecord, frame_index: int, object_id: int, path: str) -> dict[int, np.ndarray]:
    """The one object of a file: whatever is neither 0 nor void."""
    labels = _read_checked(record, frame_index, path)
    objects = object_values(labels, path)
    if len(objects) > 1:
        raise DataError(
            f"{path}: the mask of object {object_id} has the values {sorted(objects.values())}; a file that "
            f"holds one object has one value besides 0 (and 255 as void) ({_where(record, frame_index)})"
        )
    return {object_id: np.isin(labels.pixels, list(objects.values()))}


def _segmentations(
    record: VideoRecord, annotation: Segmentations | MaskletFrame
) -> dict[int, tuple[str, list[Any]]]:
    """Object id -> the file that has its segmentations, and these."""
    if isinstance(annotation, Segmentations):
        return {key: (record.source, each) for key, each in annotation.objects.items()}
    files = [read_masklets(path) for path in annotation.paths]
    found = ((file.path, [mask]) for file in files for mask in _masklets_of(file, annotation.place))
    return dict(zip(number_objects(files), found))


def _is_figure(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) and FIGURE in segmentation


def _packed_segmentations(record: VideoRecord, frame_index: int) -> dict[int, tuple[str, list[Any]]]:
    where = str(place_of(record, frame_index))
    objects = read_masks(record, frame_index).objects
    return {key: (where, [_rle(record, counts)]) for key, counts in objects.items()}


def _packed_void(record: VideoRecord, frame_index: int) -> np.ndarray | None:
    counts = read_masks(record, frame_index).void
    if counts is None:
        return None
    where = f"{place_of(record, frame_index)}: {_where(record, frame_index)}, void"
    return segmentation_to_mask(_rle(record, counts), record.height, record.width, where)


def _rle(record: VideoRecord, counts: bytes) -> dict[str, Any]:
    return {"size": [record.height, record.width], "counts": counts}


def _masklets_of(file: Masklets, place: int) -> list[dict[str, Any]]:
    if place >= len(file.frames):
        raise DataError(
            f"{file.path}: annotates {len(file.frames)} frames, not the one of place {place}: the file has "
            "changed; read the dataset anew",
            file=file.path,
        )
    return file.frames[place]


def _united(
    record: VideoRecord, frame_index: int, object_id: int, path: str, segmentations: list[Any]
) -> dict[int, np.ndarray]:
    where = f"{path}: {_where(record, frame_index)}, object {object_id}"
    mask = np.zeros((record.height, record.width), dtype=bool)
    for segmentation in segmentations:
        read = figure_to_mask if _is_figure(segmentation) else segmentation_to_mask
        mask |= read(segmentation, record.height, record.width, where)
    return {object_id: mask}
