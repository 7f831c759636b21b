"""Read LabelMe: a JSON beside each frame, with polygons whose `group_id` says which object they show.

A folder is a video, or contains a folder per video. An object is a label with its group_id; without group
ids, identity=category or identity=iou is needed. A frame without a JSON is not annotated; a frame whose JSON
has no shapes is known to be empty.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Any

from sam2vt.core.data.formats.coco_identity import Annotations, assign_object_ids
from sam2vt.core.data.formats.coco_json import check_stated_size
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, and_inner, names_in, some, stem
from sam2vt.core.data.formats.paths import with_slashes
from sam2vt.core.data.formats.records import first_size, frame_paths, image_record
from sam2vt.core.data.json_files import field, load_json, shown
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

log = logging.getLogger(__name__)


def load_labelme(folders: list[str], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of each folder. Raises DataError naming the JSON and the shape."""
    return options.records(
        partial(_record, options.identity),
        folders,
        lambda folder: {"video": os.path.basename(folder), "file": folder},
    )


def _record(identity: str, folder: str) -> VideoRecord:
    paths = frame_paths(folder)
    size = first_size(paths)
    shapes: Annotations = {}
    for frame, path in enumerate(paths):
        json_path = f"{stem(path)}.json"
        if os.path.isfile(json_path):
            with located(file=json_path, frame=frame):
                shapes[frame] = _shapes(json_path, size, path)
    labels = dict(enumerate(sorted({each["label"] for found in shapes.values() for each in found}), start=1))
    if not labels:
        raise DataError(f"{folder}: no JSON has a shape; draw polygons, or leave the video out")
    _identify(shapes, {label: number for number, label in labels.items()}, identity, folder)
    objects, names = assign_object_ids(shapes, identity, labels, size, folder)
    ids = tuple(sorted({key for each in objects.values() for key in each}))
    masks = {frame: Segmentations(each) for frame, each in objects.items()}
    return image_record(
        os.path.basename(folder), paths, size, masks, folder, object_ids=ids, object_names=names
    )


def _shapes(path: str, size: tuple[int, int], frame_path: str) -> list[dict[str, Any]]:
    """Return the shapes of a frame as annotations: id, label, group and segmentation."""
    data = load_json(path)
    stated = {
        name: data[f"image{name.capitalize()}"]
        for name in ("height", "width")
        if isinstance(data, dict) and data.get(f"image{name.capitalize()}") is not None
    }
    check_stated_size(stated, size, frame_path, path)
    _check_frame(data, path, frame_path)
    found = []
    for place, shape in enumerate(field(data, "shapes", list, path)):
        where = f"{path}: shapes[{place}]"
        # Older versions have no shape_type: all shapes are polygons.
        kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else None
        if kind not in ("polygon", None):
            raise DataError(
                f"{where} is a {shown(kind)}; allowed are polygons: draw one in LabelMe, or remove the shape"
            )
        label = field(shape, "label", str, where)
        polygon = _flat(field(shape, "points", list, where), where)
        found.append({"id": place, "label": label, "group": shape.get("group_id"), "segmentation": [polygon]})
    return found


def _check_frame(data: Any, path: str, frame_path: str) -> None:
    """Raise DataError if a JSON is named as one frame, and names another one beside it."""
    named = data.get("imagePath") if isinstance(data, dict) else None
    name = os.path.basename(with_slashes(named)) if isinstance(named, str) else ""
    if name in ("", os.path.basename(frame_path)) or stem(name) == stem(os.path.basename(frame_path)):
        return
    if name in names_in(os.path.dirname(path)):
        raise DataError(
            f"{path}: imagePath is {shown(name)}, another frame of the folder: which of the two has the "
            "shapes is not clear. Name the JSON as its frame, or correct imagePath"
        )


def _flat(points: list[Any], where: str) -> list[float]:
    if any(not isinstance(each, list) or len(each) != 2 for each in points):
        raise DataError(
            f"{where}: points are {shown(points)}; they must be pairs [x, y]: save the file again"
        )
    return [value for point in points for value in point]


def _identify(shapes: Annotations, numbers: dict[str, int], identity: str, folder: str) -> None:
    """Give each annotation its category and its track: the group, with the label where groups repeat."""
    every = [(frame, each) for frame, found in shapes.items() for each in found]
    lacking = next(((frame, each) for frame, each in every if each["group"] in (None, "")), None)
    if lacking is not None and identity == "error":
        frame, each = lacking
        raise DataError(
            f"{folder}: shapes[{each['id']}] ({each['label']}) of frame {frame} has no group_id, so nothing "
            "tells which object it shows over the video. Give each object its own group_id in LabelMe, or "
            "choose dataset.identity=category (--identity category: one object per label) or "
            "dataset.identity=iou (--identity iou: shapes are linked by overlap from frame to frame)",
            frame=frame,
        )
    pairs = {(str(each["group"]), each["label"]) for _, each in every}
    # Some count groups anew for each label.
    repeats = len({group for group, _ in pairs}) < len(pairs)
    if repeats:
        _say_relabelled(every, folder)
    for _, each in every:
        each["category_id"] = numbers[each["label"]]
        each["track_id"] = f"{each['label']} {each['group']}" if repeats else each["group"]


def _say_relabelled(every: list[tuple[int, dict[str, Any]]], folder: str) -> None:
    """Warn of groups with several labels, but never on one frame: they may be one object each."""
    labels: dict[str, dict[str, set[int]]] = {}
    for frame, each in every:
        labels.setdefault(str(each["group"]), {}).setdefault(each["label"], set()).add(frame)
    for group, frames in sorted(labels.items()):
        if len(frames) > 1 and sum(map(len, frames.values())) == len(set().union(*frames.values())):
            log.warning(
                "%s: group_id %s is labelled %s, never on the same frame, and is read as %d objects; if it "
                "is one, give it one label",
                *(folder, group, some(frames), len(frames)),
            )


def _recognise(path: str) -> Found | None:
    folders = [each for each in and_inner(path) if _is_labelme(each)]
    if not folders:
        return None
    why = f"{some(os.path.basename(each) for each in folders)} has a JSON with shapes beside a frame"
    return Found("LabelMe", why, partial(load_labelme, folders), ("identity",))


def _is_labelme(folder: str) -> bool:
    names = names_in(folder) if os.path.isdir(folder) else []
    frames = {stem(name) for name in names if name.lower().endswith(IMAGE_EXTENSIONS)}
    beside = (name for name in names if name.endswith(".json") and stem(name) in frames)
    first = next(beside, None)
    if first is None:
        return False
    data = load_json(os.path.join(folder, first))
    return isinstance(data, dict) and "shapes" in data


LAYOUT = Layout("LabelMe: <video>/<frame>.jpg with <frame>.json beside it, objects by group_id", _recognise)
