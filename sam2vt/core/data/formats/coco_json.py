"""Read a COCO JSON, and check that its images and annotations fit together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container
from functools import partial
from typing import Any, NamedTuple

from sam2vt.core.data.formats.layout import Found, ReadOptions, check_object_id
from sam2vt.core.data.formats.listing import check_text, names_in, some, subfolders
from sam2vt.core.data.json_files import check_objects, load_json, shown
from sam2vt.core.data.masks.masklets import is_masklet_file
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

JsonObject = dict[str, Any]
_FOLDERS = ("annotations", "annotation", "ann")  # of a JSON, beside the frames' own
Place = dict[str, Any]  # of a DataError: video, frame
_NOT_LISTED = "belongs to image {}, which images does not list{}; add it, or write its id as there"
_NOT_SEGMENTED = (
    "of image {} has no segmentation{}; allowed are an RLE dict with size and counts, or polygons: boxes "
    "alone are not enough"
)


class CocoJson(NamedTuple):
    """A JSON with all data that its records are made from."""

    path: str
    annotations: dict[Any, list[JsonObject]]  # by the id of their image, or of their video
    names: dict[Any, Any]  # category id -> name
    roots: list[str]  # folders of the files that it names
    options: ReadOptions


def recognise_json(
    path: str,
    kinds: tuple[str, ...],
    what: str,
    why: str,
    load: Callable[[str, ReadOptions], list[VideoRecord]],
    takes: tuple[str, ...] = (),
) -> Found | None:
    """Return the layout `what` if the dataset's JSON is of one of these `json_kind`s, else None."""
    json_path = find_json(path)
    if json_path is None or json_kind(json_path) not in kinds:
        return None
    takes = (*takes, "image_root", "allow_absolute_paths")
    return Found(what, f"{os.path.basename(json_path)} {why}", partial(load, json_path), takes)


def find_json(path: str) -> str | None:
    """Return the JSON of a dataset: `path`, or the only one in its folder or annotations/, or None."""
    if os.path.isfile(path):
        return path if path.lower().endswith(".json") else None
    found = _jsons(path)
    if len(found) > 1 and not any(name.endswith(("_manual.json", "_auto.json")) for name in found):
        names = some(os.path.relpath(name, path) for name in found)
        raise DataError(f"{path}: holds several JSON files ({names}); data_path must name one of them")
    return check_text(found[0]) if found else None


def _jsons(path: str) -> list[str]:
    """Return the JSON files in a folder and in annotations/ there, and those in ann/ that list frames."""
    found: list[str] = []
    inner = [os.path.join(path, name) for name in subfolders(path) if name.lower() in _FOLDERS]
    for folder in filter(os.path.isdir, [path, *inner]):
        names = [each for each in names_in(folder) if each.lower().endswith(".json") and each[0] != "."]
        paths = [os.path.join(folder, each) for each in names]
        # Other layouts have a JSON per frame there: the first tells.
        if folder in (path, os.path.join(path, "annotations")) or any(map(_lists_frames, paths[:1])):
            found += paths
    return found


def _lists_frames(path: str) -> bool:
    content = load_json(path)
    return isinstance(content, dict) and not {"images", "videos", "sequences"}.isdisjoint(content)


def has_coco_json(path: str) -> bool:
    """Return whether a JSON in a folder, or in annotations/ there, lists images, videos or sequences."""
    return any(map(_lists_frames, _jsons(path)))


def json_home(path: str) -> str:
    """Return the absolute folder of a JSON's dataset: its own, or the one around annotations/."""
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.dirname(folder) if os.path.basename(folder).lower() in _FOLDERS else folder


def json_kind(path: str) -> str:
    """Return the kind of a JSON by its content: "masklets", "burst", "youtube_vis", "images" or "coco"."""
    data = load_json(path)
    if not isinstance(data, dict):
        return "coco"  # whose reader says what is wrong
    if is_masklet_file(data):
        return "masklets"
    if isinstance(data.get("sequences"), list) and "images" not in data:
        return "burst"
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
    """Return the value by which an annotation names its object; None if it has none."""
    attributes = annotation.get("attributes")
    candidates = [annotation.get("track_id"), annotation.get("instance_id")]
    candidates.append(attributes.get("track_id") if isinstance(attributes, dict) else None)
    return next((each for each in candidates if each is not None and each != ""), None)


def track_of(annotation: JsonObject, where: str) -> int | str | None:
    """Return the number or name of the object; integers may be written as 7.0, as in tables."""
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
    fields = data if isinstance(data, dict) else {}
    lacking = [key for key in ("images", "annotations") if not isinstance(fields.get(key), list)]
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
    """Return category id -> name. Raises DataError for a category that is not an object with fields."""
    categories = data.get("categories") or []
    if not isinstance(categories, list):
        raise DataError(f"{path}: categories is a {type(categories).__name__}; it must be a list of objects")
    check_objects(categories, "categories", path)
    return {each["id"]: each.get("name") for each in categories if isinstance(each.get("id"), (int, str))}


def name_of(annotation: JsonObject, names: dict[Any, Any]) -> str | None:
    """Return the name of an annotation's category, if both exist."""
    category = same_id(names, annotation.get("category_id"))
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

    Crowds are left out too, unless they name their object: CVAT writes iscrowd=1 for every brush mask.
    `place_of` returns the video and frame of an image, for faults.
    """
    by_image = by_id(json_path, images, "images")
    num_crowd = 0
    for place, annotation in enumerate(annotations):
        image_id = same_id(by_image, annotation.get("image_id"))
        is_listed = isinstance(image_id, (int, str)) and image_id in by_image
        if is_listed and annotation.get("iscrowd") and stated_track(annotation) is None:
            num_crowd += 1
        elif is_listed and annotation.get("segmentation"):
            by_image[image_id].append(annotation)
        else:
            track = stated_track(annotation) if options.identity == "error" else None
            # With other identities the number of the object is not known yet.
            number = track if type(track) is int else None  # which is then the object's
            where = {**(place_of(image_id) if is_listed else {}), "file": json_path, "object": number}
            what = _NOT_SEGMENTED if is_listed else _NOT_LISTED
            name = f"{json_path}: annotations[{place}] (id {annotation.get('id')})"
            ids = "" if is_listed else f" (ids are {some((repr(each)[:40] for each in by_image), 2)})"
            options.fault(f"{name} {what.format(repr(image_id)[:40], ids)}", **where)
    if num_crowd:
        options.note(
            f"{json_path}: {num_crowd} of {len(annotations)} annotations are left out: crowd regions "
            "(iscrowd=1) without a track id are no objects. Where each is one object, as CVAT's brush masks "
            "are, export tracks, or set iscrowd to 0"
        )
    return by_image


def same_id(known: Container[Any], value: Any) -> Any:
    """Return an id in the form of the table: some programs write the number 1 as "1", and pandas as 1.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    other = str(value) if isinstance(value, int) else value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        other = int(value)
    is_id = isinstance(value, (int, str)) and not isinstance(value, bool)
    return other if is_id and value not in known and other in known else value


def by_id(path: str, entries: list[JsonObject], key: str) -> dict[Any, list[JsonObject]]:
    """Return a list to fill for the id of each entry of the list `key`. Raises DataError if one has none,
    or that of another.
    """
    found: dict[Any, list[JsonObject]] = {}
    for place, entry in enumerate(entries):
        number = entry.get("id")
        if not isinstance(number, (int, str)):
            raise DataError(
                f"{path}: {key}[{place}] has id {number!r}; it needs a number or name; its "
                f"fields are {some(entry, 12)}",
                file=path,
            )
        if number in found:
            raise DataError(f"{path}: two {key} have the id {number}; ids must be unique", file=path)
        found[number] = []
    return found


def no_object(where: str, num_images: int) -> DataError:
    """Return the error of a video or JSON whose annotations show no object."""
    return DataError(
        f"{where}: none of its {num_images} images has an annotation of an object (iscrowd=1 without a track "
        "id is none); annotate some objects, or leave the video out"
    )


def check_stated_size(entry: JsonObject, size: tuple[int, int], path: str, where: str) -> None:
    """Raise DataError if an image or video states another size than the (height, width) of its file."""
    stated = (entry.get("height", size[0]), entry.get("width", size[1]))
    if stated != size:
        numbers = [(one, other) for one, other in zip(stated, size) if isinstance(one, (int, float))]
        ratios = [f"{one / other:.3g}" for one, other in numbers if abs(one) < 1e18]  # more fits no float
        factor = f" (a factor of {' and '.join(dict.fromkeys(ratios))})" if ratios else ""
        raise DataError(
            f"{where} states height x width {str(stated[0])[:20]} x {str(stated[1])[:20]}, but {path} is "
            f"{size[0]} x {size[1]}{factor}; masks are drawn at the stated one, and a video has one size: "
            "use the frames of that size"
        )
