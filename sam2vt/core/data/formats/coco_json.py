"""A COCO JSON as read: that it is one, and that its images and annotations fit together."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from sam2vt.core.data.formats.listing import some
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

Entry = dict[str, Any]


def find_json(path: str) -> str | None:
    """The JSON of a dataset: `path`, or the only one in its folder or annotations/; None: there is none."""
    if os.path.isfile(path):
        return path if path.lower().endswith(".json") else None
    folders = [path, os.path.join(path, "annotations")]
    found = [
        os.path.join(folder, name)
        for folder in folders
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if name.lower().endswith(".json") and not name.startswith(".")
    ]
    if len(found) > 1 and not any(_is_masklet_file(name) for name in found):
        names = some(os.path.relpath(name, path) for name in found)
        raise DataError(f"{path}: holds several JSON files ({names}); data_path must name one of them")
    return found[0] if found else None


def read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    if isinstance(data, dict) and ("masklet" in data or "masklet_id" in data):
        raise DataError(
            f"{path}: this is an SA-V masklet JSON, which is not supported; allowed are folders of frames "
            "and masks, video files with folders of masks, and COCO video JSON"
        )
    lacking = [
        key
        for key in ("images", "annotations")
        if not isinstance(data, dict) or not isinstance(data.get(key), list)
    ]
    if lacking:
        got = f"the keys {some(data)}" if isinstance(data, dict) else f"a {type(data).__name__}"
        raise DataError(
            f"{path}: is no COCO video JSON: it lacks the list(s) {', '.join(lacking)}; it holds {got}. "
            "Allowed is an object with images (each with id and video_id), annotations and categories"
        )
    for key in ("images", "annotations"):
        wrong = next((i for i, each in enumerate(data[key]) if not isinstance(each, dict)), None)
        if wrong is not None:
            raise DataError(
                f"{path}: {key}[{wrong}] is {str(data[key][wrong])[:40]!r}, not an object of fields"
            )
    if not data["images"]:
        raise DataError(f"{path}: images is empty; a dataset needs at least one video")
    return data


def _is_masklet_file(path: str) -> bool:
    return path.endswith(("_manual.json", "_auto.json"))


def group_by_image(json_path: str, images: list[Entry], annotations: list[Entry]) -> dict[Any, list[Entry]]:
    """Image id -> its annotations; every image has an entry."""
    by_image: dict[Any, list[Entry]] = {}
    for place, image in enumerate(images):
        if not isinstance(image.get("id"), (int, str)):
            raise DataError(
                f"{json_path}: images[{place}] has id {image.get('id')!r}; every image needs a number or "
                f"name; its fields are {some(image, 12)}"
            )
        if image["id"] in by_image:
            raise DataError(f"{json_path}: two images have the id {image['id']}; ids must be unique")
        by_image[image["id"]] = []
    num_crowd = 0
    for place, annotation in enumerate(annotations):
        name = f"{json_path}: annotations[{place}] (id {annotation.get('id')})"
        image_id = annotation.get("image_id")
        if not isinstance(image_id, (int, str)) or image_id not in by_image:
            raise DataError(f"{name} belongs to image {image_id}, which images does not list")
        if annotation.get("iscrowd"):
            num_crowd += 1
            continue
        if not annotation.get("segmentation"):
            raise DataError(
                f"{name} of image {annotation['image_id']} has no segmentation; allowed are an RLE dict with "
                "size and counts, or polygons: boxes alone are not enough"
            )
        by_image[annotation["image_id"]].append(annotation)
    if num_crowd:
        log.warning("%s: %d crowd annotations (iscrowd) are no objects: left out", json_path, num_crowd)
    return by_image
