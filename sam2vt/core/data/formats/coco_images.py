"""Plain COCO images, as Roboflow and most tools export them: each image becomes a still.

No image has a video_id and no annotation a track id, so nothing says which images belong together. A still
is a video of one frame; its clips are drawn by a seeded motion of the camera. Each annotation is an object.
"""

from __future__ import annotations

import os
from typing import Any

from sam2vt.core.data.formats.coco import common_size, find_images, image_roots
from sam2vt.core.data.formats.coco_json import (
    JsonObject,
    Place,
    category_names,
    find_json,
    group_by_image,
    json_kind,
    name_of,
    read_json,
)
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.records import image_record
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

ROBOFLOW = "_annotations.coco.json"
_SPLITS = ("train", "valid", "val", "test")


def load_images(json_path: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every image that has an annotation. Raises DataError naming image or annotation."""
    with located(file=json_path):
        data = read_json(json_path)
        by_image = group_by_image(json_path, data["images"], data["annotations"], options, _place)
        names, roots = category_names(json_path, data), image_roots(json_path, options)
    annotated = [image for image in data["images"] if by_image[image["id"]]]
    if not annotated:
        raise DataError(
            f"{json_path}: none of its {len(data['images'])} images has an annotation of an object "
            "(iscrowd=1 without a track id is none); annotate some",
            file=json_path,
        )
    return options.records(
        lambda image: _record(json_path, image, by_image[image["id"]], names, roots, options),
        annotated,
        lambda image: {**_place(image["id"]), "file": json_path},
    )


def _place(image_id: Any) -> Place:
    return {"video": f"image {image_id}", "frame": 0}


def _record(
    json_path: str,
    image: JsonObject,
    annotations: list[JsonObject],
    names: dict[Any, Any],
    roots: list[str],
    options: ReadOptions,
) -> VideoRecord:
    where = f"{json_path}: image {image['id']}"
    paths = find_images([image], roots, where, options)
    size = common_size([image], paths, where)
    # Nothing says who is who across images, so each annotation is an object.
    objects = {number: [each["segmentation"]] for number, each in enumerate(annotations, start=1)}
    shown = {number: name_of(each, names) for number, each in enumerate(annotations, start=1)}
    video_id, names = _place(image["id"])["video"], {key: name for key, name in shown.items() if name}
    fields: dict[str, Any] = {"object_ids": tuple(objects), "object_names": names, "is_still": True}
    return image_record(video_id, paths, size, {0: Segmentations(objects)}, json_path, **fields)


def _recognise(path: str) -> Found | None:
    _refuse_splits(path)
    json_path = find_json(path)
    if json_path is None or json_kind(json_path) != "images":
        return None
    return Found(
        "COCO images, each a still",
        f"no image of {os.path.basename(json_path)} has a video_id, and no annotation a track id",
        lambda options: load_images(json_path, options),
        takes=("image_root", "allow_absolute_paths"),
    )


# Merging them would train on the test images.
def _refuse_splits(path: str) -> None:
    splits = [name for name in _SPLITS if os.path.isfile(os.path.join(path, name, ROBOFLOW))]
    if splits:
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)} of a Roboflow export; data_path must name one of "
            f"them, such as {os.path.join(path, splits[0])}"
        )


LAYOUT = Layout(f"COCO images: a COCO JSON without video_id, such as Roboflow's {ROBOFLOW}", _recognise)
