"""Write a record as compact text and read it back exactly, for a row of a record table.

Paths that count up in one folder, as for nearly all frames and masks, become a pattern; the rest is JSON.
Files must stay readable: change no tag and no key, add new ones.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sam2vt.core.types import (
    Figures,
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
# The field of each key of `extra`. Fingerprints depend on the text, so the order of keys is kept, too.
_EXTRA = {
    "still": "is_still",
    "parents": "parents",
    "intensity_range": "intensity_range",
    "classes": "classes",
    "colours": "colours",
    "object_names": "object_names",
    "meta": "object_list",
    "set": "member",
}


def encode_record(record: VideoRecord) -> str:
    """Return the record as text. Raises DataError if JSON cannot store a value, such as an array."""
    fields: dict[str, Any] = {
        "video_id": record.video_id,
        "num_frames": record.num_frames,
        "size": [record.height, record.width],
        "annotations": _encode_annotations(record.annotations),
        "source": record.source,
        "frames": None if record.frame_paths is None else _encode_paths(record.frame_paths),
        "video": record.video_path,
        "object_ids": None if record.object_ids is None else list(record.object_ids),
        "range": None if record.frame_range is None else list(record.frame_range),
        "extra": encode_extra(record) or None,
        "packed": None if record.packed is None else _encode_packed(record.packed),
    }
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return json.dumps(given, separators=(",", ":"), ensure_ascii=False)
    except TypeError as error:
        raise DataError(
            f"{record.source}: video {record.video_id} cannot be written to a record table: {error}; allowed "
            "are numbers, text, bytes, and lists, tuples and dicts of them"
        ) from None


def decode_record(text: str) -> VideoRecord:
    """Return the record of a text that `encode_record` returned."""
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
        packed=_decode_packed(fields["packed"]) if "packed" in fields else None,
        **_decode_extra(fields.get("extra", {})),
    )


def encode_extra(record: VideoRecord) -> dict[str, Any]:
    """Return as JSON the fields of a record that only some layouts set."""
    values = {key: getattr(record, name) for key, name in _EXTRA.items()}
    if record.intensity_range is not None:
        values["intensity_range"] = list(record.intensity_range)
    unset = {key for key, value in values.items() if value is None or value is False}
    # Stills have always named their objects, even none of them.
    if not record.object_names and not record.is_still:
        unset.add("object_names")
    return {key: _plain(value) for key, value in values.items() if key not in unset}


def _decode_extra(encoded: dict[str, Any]) -> dict[str, Any]:
    extra = _restore(encoded)  # as a whole: with a key of the user's own it may be a list of items
    found = {name: extra[key] for key, name in _EXTRA.items() if key in extra}
    if "intensity_range" in found:
        found["intensity_range"] = tuple(found["intensity_range"])
    return found


def _encode_packed(packed: PackedVideo) -> list[Any]:
    rows = [list(each) for each in packed.rows]
    encoded = [packed.root, packed.segment_frames, rows, packed.file and list(packed.file), packed.coco]
    return encoded if packed.video_id is None else [*encoded, packed.video_id]


def _decode_packed(encoded: list[Any]) -> PackedVideo:
    root, segment_frames, rows, file, coco, *video_id = encoded
    places = tuple((name, first, number) for name, first, number in rows)
    return PackedVideo(root, segment_frames, places, file and (file[0], file[1]), coco, *video_id)


class _Codec(NamedTuple):
    """How frames with one kind of annotation are written: groups of [tag, *content]."""

    tag: str
    encode: Callable[[dict[int, Any]], Iterator[list[Any]]]  # annotations by frame -> content of each group
    decode: Callable[..., Iterator[tuple[int, FrameAnnotation]]]  # *content -> (frame, annotation)


def _encode_annotations(annotations: dict[int, FrameAnnotation]) -> list[Any]:
    """Return groups of frames with the same kind of masks, in the order of the frames given."""
    groups: list[Any] = []
    for kind, codec in _CODECS.items():
        frames = {index: each for index, each in annotations.items() if type(each) is kind}
        if frames:
            groups += [[codec.tag, *content] for content in codec.encode(frames)]
    return groups


def _decode_annotations(groups: list[Any]) -> dict[int, FrameAnnotation]:
    by_tag = {codec.tag: codec for codec in _CODECS.values()}
    annotations: dict[int, FrameAnnotation] = {}
    for tag, *content in groups:
        annotations.update(by_tag[tag].decode(*content))
    return dict(sorted(annotations.items()))


def _encode_labels(labels: dict[int, LabelImage]) -> Iterator[list[Any]]:
    """Yield a group per coding: frames, paths and, for codings other than ids, the coding and its markers."""
    for coding in dict.fromkeys(each.coding for each in labels.values()):
        chosen = {index: each for index, each in labels.items() if each.coding == coding}
        group = [_encode_numbers(list(chosen)), _encode_paths([each.path for each in chosen.values()])]
        if coding != "ids":
            markers = [each.markers for each in chosen.values()]
            named = [path for path in markers if path is not None]
            group += [coding, _encode_paths(named) if len(named) == len(markers) else markers]
        yield group


def _decode_labels(
    frames: Any, paths: Any, coding: str = "ids", markers: Any = None
) -> Iterator[tuple[int, LabelImage]]:
    numbers = _decode_numbers(frames)
    found = [None] * len(numbers) if markers is None else _decode_paths(markers)
    for index, path, marker in zip(numbers, _decode_paths(paths), found):
        yield index, LabelImage(path, coding, marker)


def _encode_images(images: dict[int, ObjectImages]) -> Iterator[list[Any]]:
    """Yield one group: all frames, and [object id, its frames, its paths] of every object."""
    by_object: dict[int, dict[int, str]] = {}
    for index, annotation in images.items():
        for object_id, path in annotation.paths.items():
            by_object.setdefault(object_id, {})[index] = path
    # All frames are listed: one may show that no object has a file.
    yield [
        _encode_numbers(list(images)),
        [
            [object_id, _encode_numbers(list(paths)), _encode_paths(list(paths.values()))]
            for object_id, paths in by_object.items()
        ],
    ]


def _decode_images(frames: Any, objects: list[Any]) -> Iterator[tuple[int, ObjectImages]]:
    found: dict[int, dict[int, str]] = {index: {} for index in _decode_numbers(frames)}
    for object_id, indices, encoded in objects:
        for index, path in zip(_decode_numbers(indices), _decode_paths(encoded)):
            found[index][object_id] = path
    return ((index, ObjectImages(paths)) for index, paths in found.items())


def _encode_packed_masks(packed: dict[int, PackedMasks]) -> Iterator[list[Any]]:
    yield [_encode_numbers(list(packed))]


def _decode_packed_masks(frames: Any) -> Iterator[tuple[int, PackedMasks]]:
    return ((index, PackedMasks()) for index in _decode_numbers(frames))


def _encode_masklets(masklets: dict[int, MaskletFrame]) -> Iterator[list[Any]]:
    """Yield a group per set of files: the files, frames and their places in the files."""
    for paths in dict.fromkeys(each.paths for each in masklets.values()):
        places = {index: each.place for index, each in masklets.items() if each.paths == paths}
        yield [list(paths), _encode_numbers(list(places)), _encode_numbers(list(places.values()))]


def _decode_masklets(paths: list[str], frames: Any, places: Any) -> Iterator[tuple[int, MaskletFrame]]:
    for index, place in zip(_decode_numbers(frames), _decode_numbers(places)):
        yield index, MaskletFrame(tuple(paths), place)


def _encode_objects(frames: dict[int, Segmentations | Figures]) -> Iterator[list[Any]]:
    """Yield one group: [frame, [object id, its segmentations] of every object] of every frame.

    Where something is void, [frame, its segmentations] of these frames follow.
    """
    found = {index: each.objects.items() for index, each in frames.items()}
    written = [[index, [[key, _plain(each)] for key, each in objects]] for index, objects in found.items()]
    areas = {index: each.void for index, each in frames.items() if isinstance(each, Segmentations)}
    void = [[index, _plain(each)] for index, each in areas.items() if each]
    yield [written, void] if void else [written]


def _decode_segmentations(
    frames: list[Any], void: Sequence[Any] = ()
) -> Iterator[tuple[int, FrameAnnotation]]:
    """Decode segmentations, or figures, which had no tag of their own at first: a group has one kind."""
    found, areas = dict(_decode_objects(frames)), {index: _restore(each) for index, each in void}
    if areas:
        yield from ((index, Segmentations(each, areas.get(index, []))) for index, each in found.items())
        return
    each_one = (each for objects in found.values() for several in objects.values() for each in several)
    kind = Figures if any(isinstance(each, dict) and "figure" in each for each in each_one) else Segmentations
    yield from ((index, kind(objects)) for index, objects in found.items())


def _decode_figures(frames: list[Any]) -> Iterator[tuple[int, Figures]]:
    return ((index, Figures(objects)) for index, objects in _decode_objects(frames))


def _decode_objects(frames: list[Any]) -> Iterator[tuple[int, dict[int, list[Any]]]]:
    for index, objects in frames:
        yield index, {key: _restore(each) for key, each in objects}


# The order is that of the groups in the text.
_CODECS: dict[type[FrameAnnotation], _Codec] = {
    LabelImage: _Codec("labels", _encode_labels, _decode_labels),
    ObjectImages: _Codec("images", _encode_images, _decode_images),
    PackedMasks: _Codec("packed", _encode_packed_masks, _decode_packed_masks),
    MaskletFrame: _Codec("masklets", _encode_masklets, _decode_masklets),
    Segmentations: _Codec("segmented", _encode_objects, _decode_segmentations),
    Figures: _Codec("figures", _encode_objects, _decode_figures),
}


def _encode_numbers(numbers: list[int]) -> Any:
    """Return {"from", "by", "count"} where they count up evenly, else the list."""
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
    """Return {"like": [before, digits, after], numbers}, {"folder", "names"}, or the list."""
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


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: other keys than text, tuples and bytes are marked for `_restore`."""
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _plain(each) for key, each in value.items()}
        return {"$items": [[_plain(key), _plain(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [_plain(each) for each in value]}
    if isinstance(value, list):
        return [_plain(each) for each in value]
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
