"""A COCO JSON as read: that it is one, and that its images and annotations fit together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sam2vt.core.data.formats.layout import ReadOptions, check_object_id
from sam2vt.core.data.formats.listing import check_text, names_in, some
from sam2vt.core.data.json_files import check_objects, load_json, shown
from sam2vt.core.data.masks.masklets import is_masklet_file
from sam2vt.errors import DataError

JsonObject = dict[str, Any]
Place = dict[str, Any]  # of a DataError: video, frame


def find_json(path: str) -> str | None:
    """Return the JSON of a dataset: `path`, or the only one in its folder or annotations/, or None."""
    if os.path.isfile(path):
        return path if path.lower().endswith(".json") else None
    folders = [path, os.path.join(path, "annotations")]
    found = [
        os.path.join(folder, name)
        for folder in folders
        if os.path.isdir(folder)
        for name in names_in(folder)
        if name.lower().endswith(".json") and not name.startswith(".")
    ]
    if len(found) > 1 and not any(name.endswith(("_manual.json", "_auto.json")) for name in found):
        names = some(os.path.relpath(name, path) for name in found)
        raise DataError(f"{path}: holds several JSON files ({names}); data_path must name one of them")
    return check_text(found[0]) if found else None


def json_kind(path: str) -> str:
    """Return what a dataset's JSON is by its content: "masklets", "youtube_vis", "images" or "coco"."""
    data = load_json(path)
    if not isinstance(data, dict):
        return "coco"  # whose reader says what is wrong
    if is_masklet_file(data):
        return "masklets"
    if isinstance(data.get("videos"), list) and "images" not in data:
        return "youtube_vis"
    images, annotations = (
        [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
        for entries in (data.get("images"), data.get("annotations"))
    )
    in_videos = any(image.get("video_id") not in (None, "") for image in images)
    # A JSON of one CVAT task has no video_id but track ids.
    tracked = any(stated_track(annotation) is not None for annotation in annotations)
    return "images" if images and not in_videos and not tracked else "coco"


def stated_track(annotation: JsonObject) -> Any:
    """Return what an annotation says of which object it shows; None: nothing."""
    attributes = annotation.get("attributes")
    candidates = [annotation.get("track_id"), annotation.get("instance_id")]
    candidates.append(attributes.get("track_id") if isinstance(attributes, dict) else None)
    return next((each for each in candidates if each is not None and each != ""), None)


def track_of(annotation: JsonObject, where: str) -> int | str | None:
    """Return the number or name of the object; whole numbers may be written as 7.0, as tables do."""
    track = stated_track(annotation)
    # pandas turns whole numbers into floats where some are missing.
    if isinstance(track, float) and track.is_integer():
        track = int(track)
    if isinstance(track, bool) or not isinstance(track, (int, str, type(None))):
        raise DataError(
            f"{where}: annotation {annotation.get('id')} has the track id {shown(track)}, a "
            f"{type(track).__name__}; allowed is a whole number or a text"
        )
    if isinstance(track, int):
        check_object_id(track, f"{where}: annotation {annotation.get('id')} has the track id")
    return track


def read_json(path: str) -> dict[str, Any]:
    """Return the content of a COCO JSON, lists of objects of fields. Raises DataError naming a list."""
    data = load_json(path)
    if is_masklet_file(data):
        raise DataError(
            f"{path}: this is an SA-V masklet file, not COCO: set dataset.dataset_type (--dataset-type) to "
            "video or auto, and dataset.data_path to the folder that holds it and its video"
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
        check_objects(data[key], key, path)
    if not data["images"]:
        raise DataError(f"{path}: images is empty; a dataset needs at least one video")
    return data


def category_names(path: str, data: dict[str, Any]) -> dict[Any, Any]:
    """Return category id -> name. Raises DataError for a category that is no object of fields."""
    categories = data.get("categories") or []
    if not isinstance(categories, list):
        raise DataError(f"{path}: categories is a {type(categories).__name__}; it must be a list of objects")
    check_objects(categories, "categories", path)
    return {each["id"]: each.get("name") for each in categories if isinstance(each.get("id"), (int, str))}


def name_of(annotation: JsonObject, names: dict[Any, Any]) -> str | None:
    """Return the category of an annotation, where it has one and the category a name."""
    category = annotation.get("category_id")
    name = names.get(category) if isinstance(category, (int, str)) else None
    return str(name) if name else None


def group_by_image(
    json_path: str,
    images: list[JsonObject],
    annotations: list[JsonObject],
    options: ReadOptions,
    place_of: Callable[[Any], Place] = lambda image_id: {},
) -> dict[Any, list[JsonObject]]:
    """Return image id -> its annotations; every image has an entry. An annotation that is a fault is left
    out.

    So are crowds, unless they say which object they are: CVAT writes iscrowd=1 for every brush mask.
    `place_of` tells the video and frame of an image, for faults.
    """
    by_image: dict[Any, list[JsonObject]] = {image_id: [] for image_id in _image_ids(json_path, images)}
    num_crowd = 0
    for place, annotation in enumerate(annotations):
        lacking = _lacking(annotation, by_image)
        if lacking is not None:
            name = f"{json_path}: annotations[{place}] (id {annotation.get('id')})"
            where = place_of(annotation["image_id"]) if lacking.is_listed else {}
            track = stated_track(annotation) if options.identity == "error" else None
            # With other identities the number of the object is not known yet.
            number = track if type(track) is int else None  # which is then the object's
            options.fault(f"{name} {lacking.what}", file=json_path, object=number, **where)
        elif _is_crowd(annotation):
            num_crowd += 1
        else:
            by_image[annotation["image_id"]].append(annotation)
    if num_crowd:
        options.note(
            f"{json_path}: {num_crowd} of {len(annotations)} annotations are left out: crowd regions "
            "(iscrowd=1) without a track id are no objects. Where each is one object, as CVAT's brush masks "
            "are, export tracks, or set iscrowd to 0"
        )
    return by_image


def _image_ids(json_path: str, images: list[JsonObject]) -> Iterator[Any]:
    """Yield the id of each image. Raises DataError for one that has none, or that of another."""
    seen = set()
    for place, image in enumerate(images):
        if not isinstance(image.get("id"), (int, str)):
            raise DataError(
                f"{json_path}: images[{place}] has id {image.get('id')!r}; every image needs a number or "
                f"name; its fields are {some(image, 12)}",
                file=json_path,
            )
        if image["id"] in seen:
            raise DataError(
                f"{json_path}: two images have the id {image['id']}; ids must be unique", file=json_path
            )
        seen.add(image["id"])
        yield image["id"]


class _Lacking(NamedTuple):
    """What keeps an annotation from being used, and whether its image is there."""

    what: str
    is_listed: bool


def _lacking(annotation: JsonObject, by_image: dict[Any, list[JsonObject]]) -> _Lacking | None:
    image_id = annotation.get("image_id")
    if not isinstance(image_id, (int, str)) or image_id not in by_image:
        return _Lacking(f"belongs to image {image_id}, which images does not list; add the image", False)
    if annotation.get("segmentation") or _is_crowd(annotation):
        return None
    return _Lacking(
        f"of image {image_id} has no segmentation; allowed are an RLE dict with size and counts, or "
        "polygons: boxes alone are not enough",
        True,
    )


def _is_crowd(annotation: JsonObject) -> bool:
    return bool(annotation.get("iscrowd")) and stated_track(annotation) is None
