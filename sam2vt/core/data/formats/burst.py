"""Read BURST (TAO with masks): a JSON of sequences, with an RLE per track on each annotated frame.

Frames are <dataset>/<sequence>/<name> below the JSON's folder, frames/, or a folder of the split in either.
A track is an object, named by its category. On an annotated frame without its RLE it is known to be absent.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

from sam2vt.core.data.formats.coco import image_roots
from sam2vt.core.data.formats.coco_json import (
    CocoJson,
    JsonObject,
    category_names,
    check_stated_size,
    name_of,
    recognise_json,
)
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions, check_object_id
from sam2vt.core.data.formats.paths import find_files
from sam2vt.core.data.formats.records import first_size, image_record
from sam2vt.core.data.json_files import check_objects, field, load_json, shown
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

_FRAMES = "frames"


def load_burst(json_path: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every sequence. Raises DataError naming the sequence, frame or track."""
    with located(file=json_path):
        data = load_json(json_path)
        sequences = field(data, "sequences", list, json_path)
        check_objects(sequences, "sequences", json_path)
        names = category_names(json_path, data)
        paths = [_path_of(each, f"{json_path}: sequences[{i}]") for i, each in enumerate(sequences)]
    roots = _roots(json_path, data.get("split"), options)
    json = CocoJson(json_path, {}, names, roots, options)
    # Datasets of BURST may have sequences of the same name.
    short = Counter(name for _, name in paths)
    ids = [name if short[name] == 1 else f"{dataset}/{name}".lstrip("/") for dataset, name in paths]
    return options.records(
        lambda item: _record(json, *item),
        list(zip(ids, sequences)),
        lambda item: {"video": item[0], "file": json_path},
    )


def _path_of(sequence: JsonObject, where: str) -> tuple[str, str]:
    """Return the folder of the sequence's dataset, and its own name."""
    name, dataset = field(sequence, "seq_name", str, where), sequence.get("dataset")
    return dataset if isinstance(dataset, str) else "", name


def _roots(json_path: str, split: Any, options: ReadOptions) -> list[str]:
    # A split of several parts, or .., would lead out of the folder.
    inner = [split] if isinstance(split, str) and re.fullmatch(r"\w[\w-]*", split) else []
    tops = [os.path.join(root, *each) for root in image_roots(json_path, options) for each in ([_FRAMES], [])]
    return [root for top in tops for root in (*(os.path.join(top, each) for each in inner), top)]


def _record(json: CocoJson, video_id: str, sequence: JsonObject) -> VideoRecord:
    where = f"{json.path}: sequence {video_id}"
    frames, annotated = (_names(sequence, key, where) for key in ("all_image_paths", "annotated_image_paths"))
    folder = os.path.join(*_path_of(sequence, where))
    own = os.path.basename(folder)
    written = [[os.path.join(folder, name), os.path.join(own, name)] for name in frames]
    paths = find_files(written, json.roots, where, json.options)
    size = first_size(paths)
    check_stated_size(sequence, size, paths[0], where)
    places = {name: place for place, name in enumerate(frames)}
    tracks = field(sequence, "segmentations", list, where)
    if len(tracks) != len(annotated):
        raise DataError(
            f"{where}: segmentations has {len(tracks)} entries, annotated_image_paths {len(annotated)}; each "
            "annotated frame has one entry: download the file again"
        )
    annotations = {}
    for name, entry in zip(annotated, tracks):
        if name not in places:
            raise DataError(
                f"{where}: the annotated frame {shown(name)} is not among all_image_paths; add it"
            )
        with located(frame=places[name]):
            found = _objects(entry, size, f"{where}, frame {places[name]}")
        annotations[places[name]] = Segmentations(found)
    ids = sorted({key for each in annotations.values() for key in each.objects})
    if not ids:
        raise DataError(f"{where}: no track has an RLE; annotate an object, or leave the sequence out")
    categories = sequence.get("track_category_ids")
    categories = categories if isinstance(categories, dict) else {}
    named = {key: name_of({"category_id": categories.get(str(key))}, json.names) for key in ids}
    return image_record(
        video_id,
        paths,
        size,
        dict(sorted(annotations.items())),
        json.path,
        object_ids=tuple(ids),
        object_names={key: name for key, name in named.items() if name},
    )


def _names(sequence: JsonObject, key: str, where: str) -> list[str]:
    names = field(sequence, key, list, where)
    if not names or not all(isinstance(each, str) and each for each in names) or len(set(names)) < len(names):
        raise DataError(f"{where}: {key} is {shown(names)}; it must list names of frames, each once")
    return names


def _objects(entry: Any, size: tuple[int, int], where: str) -> dict[int, list[Any]]:
    """Return track -> its RLE, where it has one."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: the segmentations are {shown(entry)}; allowed is an object of tracks")
    found = {}
    for track, each in entry.items():
        if not track.isdecimal() or not track.isascii() or len(track) > 19:
            raise DataError(f"{where}: the track {shown(track)} is no number; number the tracks from 1 on")
        number = check_object_id(int(track), f"{where}: the track is numbered")
        # TAO's own tools write the RLE alone.
        rle = each.get("rle") if isinstance(each, dict) and "rle" in each else each
        if isinstance(rle, dict) and "counts" not in rle:
            raise DataError(f"{where}, track {track}: {shown(rle)} has no rle; boxes alone are not enough")
        if rle:
            found[number] = [rle if isinstance(rle, dict) else {"size": list(size), "counts": rle}]
    return found


def _recognise(path: str) -> Found | None:
    return recognise_json(path, ("burst",), "BURST JSON", "lists sequences", load_burst)


LAYOUT = Layout("a BURST JSON: sequences with all_image_paths and an RLE per track", _recognise)
