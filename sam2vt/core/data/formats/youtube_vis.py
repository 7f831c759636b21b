"""Read YouTube-VIS and OVIS: a JSON of videos, and annotations with a segmentation or null per frame.

An annotation is an object. Every frame of a video is annotated: null says that the object is not visible.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from sam2vt.core.data.formats.coco import image_roots
from sam2vt.core.data.formats.coco_json import (
    CocoJson,
    JsonObject,
    by_id,
    category_names,
    check_stated_size,
    name_of,
    recognise_json,
    same_id,
)
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import stem
from sam2vt.core.data.formats.paths import find_files, with_slashes
from sam2vt.core.data.formats.records import first_size, image_record
from sam2vt.core.data.json_files import check_objects, load_json, shown
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

_FRAMES = "JPEGImages"


def load_youtube_vis(json_path: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every video. Raises DataError naming the video, annotation or file."""
    with located(file=json_path):
        data = load_json(json_path)
        videos, annotations = (_entries(json_path, data, key) for key in ("videos", "annotations"))
        if not videos:
            raise DataError(f"{json_path}: videos is empty; a dataset needs at least one video")
        names = category_names(json_path, data)
        by_video = _group(json_path, videos, annotations, options)
    json = CocoJson(json_path, by_video, names, _roots(json_path, options), options)
    video_ids = _video_ids(videos)
    return options.records(
        lambda video: _record(json, video, video_ids[video["id"]]),
        videos,
        lambda video: {"video": video_ids[video["id"]], "file": json_path},
    )


def _entries(json_path: str, data: Any, key: str) -> list[JsonObject]:
    entries = data.get(key)
    if not isinstance(entries, list):
        raise DataError(
            f"{json_path}: {key} is {shown(entries)}; a YouTube-VIS JSON has lists of videos and "
            "annotations. The test sets come without annotations and cannot be trained on"
        )
    check_objects(entries, key, json_path)
    return entries


def _group(
    json_path: str, videos: list[JsonObject], annotations: list[JsonObject], options: ReadOptions
) -> dict[Any, list[JsonObject]]:
    """Return video id -> its annotations. One that is of no video is left out as a fault."""
    by_video = by_id(json_path, videos, "videos")
    for place, annotation in enumerate(annotations):
        video_id = same_id(by_video, annotation.get("video_id"))
        if not isinstance(video_id, (int, str)) or video_id not in by_video:
            options.fault(
                f"{json_path}: annotations[{place}] (id {annotation.get('id')}) belongs to video "
                f"{shown(video_id)}, which videos does not list; add the video or remove the annotation",
                file=json_path,
            )
        else:
            by_video[video_id].append(annotation)
    return by_video


def _record(json: CocoJson, video: JsonObject, video_id: str) -> VideoRecord:
    where, annotations = f"{json.path}: video {video['id']}", json.annotations[video["id"]]
    paths = _frame_paths(json, video, where)
    size = first_size(paths)
    check_stated_size(video, size, paths[0], where)
    if not annotations:
        raise DataError(f"{where}: has no annotation; annotate an object or leave the video out")
    objects = _objects(annotations, len(paths), where)
    masks = {i: Segmentations(each) for i, each in enumerate(objects)}
    names = {
        number: name_of(each, json.names) or f"category {each.get('category_id')}"
        for number, each in enumerate(annotations, start=1)
    }
    return image_record(video_id, paths, size, masks, json.path, object_ids=tuple(names), object_names=names)


def _objects(annotations: list[JsonObject], num_frames: int, where: str) -> list[dict[int, list[Any]]]:
    """Return, per frame, object id -> its segmentation, where it is visible."""
    objects: list[dict[int, list[Any]]] = [{} for _ in range(num_frames)]
    for object_id, annotation in enumerate(annotations, start=1):
        with located(object=object_id):
            segmentations = _segmentations(annotation, num_frames, where)
        for frame, segmentation in enumerate(segmentations):
            # null and an empty list: the object is known to be absent.
            if segmentation:
                objects[frame][object_id] = [segmentation]
    return objects


def _video_ids(videos: list[JsonObject]) -> dict[Any, str]:
    """Return id -> the name of the folder of frames, or its path or the id where names repeat."""
    folders = {video["id"]: _folder(video) for video in videos}
    # Folders of several subsets may have the same name.
    short = Counter(map(os.path.basename, folders.values()))
    full = Counter(folders.values())
    found = {}
    for number, folder in folders.items():
        name = os.path.basename(folder)
        name = name if short[name] == 1 else folder if full[folder] == 1 else f"{folder}/{number}"
        found[number] = name.lstrip("/") or str(number)
    return found


def _folder(video: JsonObject) -> str:
    """Return the folder as the JSON writes it; empty if it names none."""
    files = video.get("file_names")
    first = files[0] if isinstance(files, list) and files else None
    return os.path.dirname(with_slashes(first)) if isinstance(first, str) else ""


def _frame_paths(json: CocoJson, video: JsonObject, where: str) -> list[str]:
    files = video.get("file_names")
    if not isinstance(files, list) or not files or not all(isinstance(each, str) and each for each in files):
        raise DataError(f"{where}: file_names is {shown(files)}; it must list the video's frames in order")
    length = video.get("length", len(files))
    if length != len(files):
        raise DataError(f"{where}: length is {shown(length)}, but file_names has {len(files)}; correct one")
    return find_files([[name] for name in files], json.roots, where, json.options)


def _segmentations(annotation: JsonObject, num_frames: int, where: str) -> list[Any]:
    segmentations = annotation.get("segmentations")
    if not isinstance(segmentations, list) or len(segmentations) != num_frames:
        got = f"{len(segmentations)}" if isinstance(segmentations, list) else shown(segmentations)
        raise DataError(
            f"{where}: annotation {annotation.get('id')} has {got} segmentations for {num_frames} frames; "
            "allowed is one per frame: an RLE, polygons, or null where the object is not visible"
        )
    return segmentations


def _roots(json_path: str, options: ReadOptions) -> list[str]:
    """Return the folders to look in: JPEGImages/ beside the JSON or in a folder of its name."""
    roots = []
    for root in image_roots(json_path, options):
        inner = [root, os.path.join(root, stem(os.path.basename(json_path)))]
        roots += [folder for each in inner for folder in (os.path.join(each, _FRAMES), each)]
    return [root for root in roots if os.path.isdir(root)]


def _recognise(path: str) -> Found | None:
    what, why = "YouTube-VIS JSON", "lists videos with file_names"
    return recognise_json(path, ("youtube_vis",), what, why, load_youtube_vis)


LAYOUT = Layout("a YouTube-VIS or OVIS JSON: videos with file_names, annotations with masks", _recognise)
