"""Assign COCO annotations to objects throughout a video, without guessing.

Annotations name their object by `track_id`, `instance_id` or `attributes.track_id`. If none does, the user
may choose. `identity=category` makes one object per category and unites its masks on a frame. `identity=iou`
links masks of a category from one annotated frame to the next, largest overlaps first, with an intersection
over union of at least 0.3. A mask without a link begins a new object.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from sam2vt.core.data.formats.coco_json import name_of, track_of
from sam2vt.core.data.formats.layout import check_object_id, is_object_id
from sam2vt.core.data.formats.listing import natural_key
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.errors import DataError, located

log = logging.getLogger(__name__)

MIN_LINK_IOU = 0.3
NO_NAME = "object"  # the category of an object without a name, where a format needs one

Annotations = dict[int, list[dict[str, Any]]]  # of a video: frame index -> annotations
Objects = dict[int, dict[int, list[Any]]]  # frame index -> object id -> segmentations


def assign_object_ids(
    annotations: Annotations,
    identity: str,
    category_names: dict[Any, Any],
    size: tuple[int, int],
    where: str,
) -> tuple[Objects, dict[int, str]]:
    """Return the segmentations of each object on each annotated frame, and the objects' names, where they
    have any.

    `size` is (height, width) of the frames. Raises DataError naming the annotation without identity.
    """
    if identity == "category":
        objects = _collect(annotations, lambda annotation, frame: _category_of(annotation, frame, where))
        present = sorted({key for each in objects.values() for key in each})
        return objects, {key: str(category_names[key]) for key in present if category_names.get(key)}
    if identity == "iou":
        return _by_overlap(annotations, category_names, size, where)
    return _by_track(annotations, category_names, where)


def _by_track(
    annotations: Annotations, category_names: dict[Any, Any], where: str
) -> tuple[Objects, dict[int, str]]:
    tracks: dict[int, str] = {}  # of each annotation, by its identity in memory
    categories: dict[str, str | None] = {}
    for frame, each in annotations.items():
        for annotation in each:
            with located(frame=frame):
                track = track_of(annotation, f"{where}, frame {frame}")
            if track is None:
                raise DataError(
                    f"{where}, frame {frame}: annotation {annotation.get('id')} does not say which object it "
                    "shows: it has no track_id, instance_id or attributes.track_id. Add one, or choose "
                    "dataset.identity=category (--identity category: one object per category) or "
                    "dataset.identity=iou (--identity iou: masks are linked by overlap from annotated frame "
                    "to annotated frame)",
                    frame=frame,
                )
            tracks[id(annotation)] = str(track)
            categories.setdefault(str(track), name_of(annotation, category_names))
    unique = sorted(set(tracks.values()), key=natural_key)
    # Ids that are numbers are kept, so that results can be matched with the JSON.
    numbered = all(map(_is_number, unique)) and len(set(map(int, unique))) == len(unique)
    ids = {name: int(name) if numbered else place for place, name in enumerate(unique, start=1)}
    objects = _collect(annotations, lambda annotation, _: ids[tracks[id(annotation)]])
    say_united(objects, where)
    # A number says nothing; its category does, unless `sam2vt convert` had none to write.
    named = {name: categories[name] if numbered else name for name in ids}
    return objects, {ids[name]: each for name, each in named.items() if each and each != NO_NAME}


def _collect(annotations: Annotations, id_of: Callable[[dict[str, Any], int], int]) -> Objects:
    """Return the segmentations by object; `id_of` takes (annotation, frame)."""
    objects: Objects = {frame: {} for frame in annotations}
    for frame, each in annotations.items():
        for annotation in each:
            objects[frame].setdefault(id_of(annotation, frame), []).append(annotation["segmentation"])
    return objects


def _is_number(text: str) -> bool:
    """Return whether a track id is an object's number; a longer row of digits is a name."""
    return re.fullmatch(r"-?[0-9]{1,19}", text) is not None and is_object_id(int(text))


def say_united(objects: Objects, where: str) -> None:
    """Warn of objects in several parts, because two objects with the same track id would look the same."""
    united = [
        (key, frame) for frame, each in objects.items() for key, parts in each.items() if len(parts) > 1
    ]
    if united:
        log.warning(
            "%s: %d times an object has several annotations on a frame, first object %s on frame %d: they "
            "are united; if they are different objects, give them different track ids",
            where,
            len(united),
            *united[0],
        )


def _by_overlap(
    annotations: Annotations, category_names: dict[Any, Any], size: tuple[int, int], where: str
) -> tuple[Objects, dict[int, str]]:
    ids: dict[int, int] = {}  # of each annotation, by its identity in memory
    previous: list[tuple[int, int, np.ndarray]] = []  # object id, category, mask
    num_objects = 0
    for frame in sorted(annotations):
        masks = []
        for annotation in annotations[frame]:
            name = f"{where}, frame {frame}, annotation {annotation.get('id')}"
            with located(frame=frame):
                mask = segmentation_to_mask(annotation["segmentation"], *size, name)
            masks.append((_category_of(annotation, frame, where), mask))
        # Only the frame before is looked at: an object that was away is a new one.
        linked = _link(previous, masks)
        previous = []
        for place, (category, mask) in enumerate(masks):
            if place not in linked:
                num_objects += 1
            object_id = ids[id(annotations[frame][place])] = linked.get(place, num_objects)
            previous.append((object_id, category, mask))
    every = [annotation for each in annotations.values() for annotation in each]
    named = {ids[id(each)]: name_of(each, category_names) for each in every}
    names = {key: name for key, name in named.items() if name}
    return _collect(annotations, lambda annotation, _: ids[id(annotation)]), names


def _link(previous: list[tuple[int, int, np.ndarray]], masks: list[tuple[int, np.ndarray]]) -> dict[int, int]:
    """Return place of a mask -> the object that it continues: the best pair first, each used once."""
    overlaps = []
    for place, (category, mask) in enumerate(masks):
        for object_id, other_category, other in previous:
            if category == other_category and (union := int((mask | other).sum())):
                overlaps.append((-int((mask & other).sum()) / union, object_id, place))
    linked: dict[int, int] = {}
    # Sorted by object and place, too: ties must not depend on the order of annotations.
    for overlap, object_id, place in sorted(overlaps):
        if -overlap >= MIN_LINK_IOU and place not in linked and object_id not in linked.values():
            linked[place] = object_id
    return linked


def _category_of(annotation: dict[str, Any], frame: int, where: str) -> int:
    category, at = annotation.get("category_id"), f"{where}, frame {frame}: annotation {annotation.get('id')}"
    if isinstance(category, bool) or not isinstance(category, int):
        raise DataError(
            f"{at} has category_id {str(category)[:40]}; dataset.identity=category (--identity category) and "
            "dataset.identity=iou need its number: write the category of each annotation",
            frame=frame,
        )
    return check_object_id(category, f"{at} has category_id")
