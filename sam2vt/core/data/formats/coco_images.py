"""Read plain COCO images, as exported by Roboflow and most tools: each image becomes a still.

No image has a video_id and no annotation a track id, so it is unknown which images belong together. A still
is a video of one frame; a seeded motion of the camera makes its clips. Each annotation is an object.
"""

from __future__ import annotations

import os
from typing import Any

from sam2vt.core.data.formats.coco import find_images, image_roots
from sam2vt.core.data.formats.coco_json import (
    CocoJson,
    JsonObject,
    Place,
    category_names,
    group_by_image,
    name_of,
    no_object,
    read_json,
    recognise_json,
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
        raise no_object(json_path, len(data["images"])).at(file=json_path)
    json = CocoJson(json_path, by_image, names, roots, options)
    return options.records(
        lambda image: _record(json, image),
        annotated,
        lambda image: {**_place(image["id"]), "file": json_path},
    )


def _place(image_id: Any) -> Place:
    return {"video": f"image {image_id}", "frame": 0}


def _record(json: CocoJson, image: JsonObject) -> VideoRecord:
    paths, size = find_images(json, [image], f"{json.path}: image {image['id']}")
    # Nothing says who is who across images, so each annotation is an object.
    numbered = dict(enumerate(json.annotations[image["id"]], start=1))
    masks = {0: Segmentations({number: [each["segmentation"]] for number, each in numbered.items()})}
    names = {number: name for number, each in numbered.items() if (name := name_of(each, json.names))}
    fields: dict[str, Any] = {"object_ids": tuple(numbered), "object_names": names, "is_still": True}
    return image_record(_place(image["id"])["video"], paths, size, masks, json.path, **fields)


def _recognise(path: str) -> Found | None:
    _refuse_splits(path)
    why = "has no image with a video_id, and no annotation with a track id"
    return recognise_json(path, ("images",), "COCO images, each a still", why, load_images)


# Merging them would train on the test images.
def _refuse_splits(path: str) -> None:
    splits = [name for name in _SPLITS if os.path.isfile(os.path.join(path, name, ROBOFLOW))]
    if splits:
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)} of a Roboflow export; data_path must name one of "
            f"them, such as {os.path.join(path, splits[0])}"
        )


LAYOUT = Layout(f"COCO images: a COCO JSON without video_id, such as Roboflow's {ROBOFLOW}", _recognise)
