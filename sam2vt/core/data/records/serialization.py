"""A record as compact text and back, exactly: what a row of a record table holds.

Paths that count up in one folder, as frames and masks nearly always do, become a pattern; everything
else is JSON.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from sam2vt.core.types import (
    FrameAnnotation,
    LabelImage,
    MaskletFrame,
    ObjectImages,
    PackedMasks,
    PackedVideo,
    Segmentations,
    VideoRecord,
)
from sam2vt.errors import DataError

_LAST_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)


def encode_record(record: VideoRecord) -> str:
    """Raises DataError for a record that holds what JSON cannot say, such as an array."""
    fields: dict[str, Any] = {
        "video_id": record.video_id,
        "num_frames": record.num_frames,
        "size": [record.height, record.width],
        "annotations": _encode_annotations(record.annotations),
        "source": record.source,
    }
    optional: dict[str, Any] = {
        "frames": None if record.frame_paths is None else _encode_paths(record.frame_paths),
        "video": record.video_path,
        "object_ids": None if record.object_ids is None else list(record.object_ids),
        "range": None if record.frame_range is None else list(record.frame_range),
        "extra": plain(record.extra) if record.extra else None,
        "packed": None if record.packed is None else _encode_packed(record.packed),
    }
    fields.update({name: value for name, value in optional.items() if value is not None})
    try:
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    except TypeError as error:
        raise DataError(
            f"{record.source}: video {record.video_id} cannot be written to a record table: {error}; allowed "
            "are numbers, text, bytes, and lists, tuples and dicts of them"
        ) from None


def decode_record(text: str) -> VideoRecord:
    fields = json.loads(text)
    frames, ids, bounds = (fields.get(name) for name in ("frames", "object_ids", "range"))
    height, width = fields["size"]
    return VideoRecord(
        video_id=fields["video_id"],
        num_frames=fields["num_frames"],
        height=height,
        width=width,
        annotations=_decode_annotations(fields["annotations"]),
        frame_paths=None if frames is None else tuple(_decode_paths(frames)),
        video_path=fields.get("video"),
        object_ids=None if ids is None else tuple(ids),
        frame_range=None if bounds is None else (bounds[0], bounds[1]),
        source=fields["source"],
        extra=_restore(fields.get("extra", {})),
        packed=_decode_packed(fields["packed"]) if "packed" in fields else None,
    )


def _encode_packed(packed: PackedVideo) -> list[Any]:
    rows = [list(each) for each in packed.rows]
    encoded = [packed.root, packed.segment_frames, rows, packed.file and list(packed.file), packed.coco]
    return encoded if packed.video_id is None else [*encoded, packed.video_id]


def _decode_packed(encoded: list[Any]) -> PackedVideo:
    root, segment_frames, rows, file, coco, *video_id = encoded
    places = tuple((name, first, number) for name, first, number in rows)
    return PackedVideo(root, segment_frames, places, file and (file[0], file[1]), coco, *video_id)


def _encode_annotations(annotations: dict[int, FrameAnnotation]) -> list[Any]:
    """Groups of frames with the same kind of masks, in the order of the frames given."""
    labels: dict[str, dict[int, LabelImage]] = {}  # by coding
    images: dict[int, dict[int, str]] = {}
    segmented = []
    masklets: dict[tuple[str, ...], dict[int, int]] = {}
    packed = []
    for index, annotation in annotations.items():
        if isinstance(annotation, MaskletFrame):
            masklets.setdefault(annotation.paths, {})[index] = annotation.place
        elif isinstance(annotation, PackedMasks):
            packed.append(index)
        elif isinstance(annotation, LabelImage):
            labels.setdefault(annotation.coding, {})[index] = annotation
        elif isinstance(annotation, ObjectImages):
            images.setdefault(index, {})  # a frame may show that no object has a file
            for object_id, path in annotation.paths.items():
                images[index][object_id] = path
        else:
            segmented.append([index, [[key, plain(each)] for key, each in annotation.objects.items()]])
    groups: list[Any] = []
    groups += [_encode_labels(coding, each) for coding, each in labels.items()]
    if images:
        groups.append(["images", _encode_numbers(list(images)), _encode_objects(images)])
    if packed:
        groups.append(["packed", _encode_numbers(packed)])
    for paths, places in masklets.items():
        numbers = [_encode_numbers(list(each)) for each in (places, places.values())]
        groups.append(["masklets", list(paths), *numbers])
    return [*groups, ["segmented", segmented]] if segmented else groups


def _encode_labels(coding: str, labels: dict[int, LabelImage]) -> list[Any]:
    group = ["labels", _encode_numbers(list(labels)), _encode_paths([each.path for each in labels.values()])]
    if coding == "ids":
        return group
    markers = [each.markers for each in labels.values()]
    named = [path for path in markers if path is not None]
    return [*group, coding, _encode_paths(named) if len(named) == len(markers) else markers]


def _encode_objects(images: dict[int, dict[int, str]]) -> list[Any]:
    """[object id, its frames, its paths] of every object."""
    by_object: dict[int, dict[int, str]] = {}
    for index, paths in images.items():
        for object_id, path in paths.items():
            by_object.setdefault(object_id, {})[index] = path
    return [
        [object_id, _encode_numbers(list(paths)), _encode_paths(list(paths.values()))]
        for object_id, paths in by_object.items()
    ]


def _decode_annotations(groups: Iterable[Any]) -> dict[int, FrameAnnotation]:
    annotations: dict[int, FrameAnnotation] = {}
    for kind, *content in groups:
        if kind == "labels":
            numbers, paths = _decode_numbers(content[0]), _decode_paths(content[1])
            coding, markers = (content[2], _decode_paths(content[3])) if content[2:] else ("ids", None)
            labelled = zip(numbers, paths, markers or [None] * len(paths))  # type: ignore[list-item]
            annotations.update({i: LabelImage(path, coding, marker) for i, path, marker in labelled})
        elif kind == "images":
            found: dict[int, dict[int, str]] = {i: {} for i in _decode_numbers(content[0])}
            for object_id, indices, encoded in content[1]:
                for index, path in zip(_decode_numbers(indices), _decode_paths(encoded)):
                    found[index][object_id] = path
            annotations.update({i: ObjectImages(each) for i, each in found.items()})
        elif kind == "packed":
            annotations.update(dict.fromkeys(_decode_numbers(content[0]), PackedMasks()))
        elif kind == "masklets":
            files, (indices, places) = tuple(content[0]), map(_decode_numbers, content[1:])
            annotations.update({i: MaskletFrame(files, place) for i, place in zip(indices, places)})
        else:
            for index, objects in content[0]:
                annotations[index] = Segmentations({key: _restore(each) for key, each in objects})
    return dict(sorted(annotations.items()))


def _encode_numbers(numbers: list[int]) -> Any:
    """{"from", "by", "count"} where they count up evenly, else the list."""
    if len(numbers) > 2 and numbers[1] > numbers[0]:
        even = range(numbers[0], numbers[-1] + 1, numbers[1] - numbers[0])
        if len(even) == len(numbers) and list(even) == numbers:
            return {"from": even.start, "by": even.step, "count": len(even)}
    return numbers


def _decode_numbers(encoded: Any) -> Sequence[int]:
    if isinstance(encoded, list):
        return encoded
    return [encoded["from"] + encoded["by"] * place for place in range(encoded["count"])]


def _encode_paths(paths: Sequence[str]) -> Any:
    """{"like": [before, digits, after], numbers}, {"folder", "names"}, or the list."""
    match = _LAST_NUMBER.fullmatch(paths[0]) if len(paths) > 2 else None
    if match:
        before, digits, after = match.groups()
        middles = [path[len(before) : len(path) - len(after)] for path in paths]
        if all(middle.isdecimal() for middle in middles):
            numbers = _encode_numbers(list(map(int, middles)))
            encoded = {"like": [before, len(digits), after], "numbers": numbers}
            if _decode_paths(encoded) == list(paths):
                return encoded
    folders = {os.path.dirname(path) for path in paths}
    names = [os.path.basename(path) for path in paths]
    if len(folders) == 1 and [os.path.join(folder, n) for folder in folders for n in names] == list(paths):
        return {"folder": folders.pop(), "names": names}
    return list(paths)


def _decode_paths(encoded: Any) -> list[str]:
    if isinstance(encoded, list):
        return encoded
    if "folder" in encoded:
        return [os.path.join(encoded["folder"], name) for name in encoded["names"]]
    before, digits, after = encoded["like"]
    return [f"{before}{number:0{digits}d}{after}" for number in _decode_numbers(encoded["numbers"])]


def plain(value: Any) -> Any:
    """Keys that are no text, tuples and bytes in a form that JSON has; `_restore` undoes it."""
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: plain(each) for key, each in value.items()}
        return {"$items": [[plain(key), plain(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [plain(each) for each in value]}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return {"$bytes": value.decode("latin-1")} if isinstance(value, bytes) else value


def _restore(value: Any) -> Any:
    if isinstance(value, list):
        return [_restore(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "$items" in value:
        return {_restore(key): _restore(each) for key, each in value["$items"]}
    if "$tuple" in value:
        return tuple(_restore(each) for each in value["$tuple"])
    if "$bytes" in value:
        return value["$bytes"].encode("latin-1")
    return {key: _restore(each) for key, each in value.items()}
