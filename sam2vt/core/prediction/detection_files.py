"""Read detections from COCO results or from our own JSON."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sam2vt.core.data.formats.coco import in_order, list_videos
from sam2vt.core.data.formats.coco_json import by_id, category_names, same_id
from sam2vt.core.data.json_files import check_objects, field, load_json, shown
from sam2vt.core.prediction.detections import Detection, Detections
from sam2vt.core.prediction.entries import (
    Check,
    Faults,
    at,
    check_videos,
    listed,
    name,
    numbers,
    read_by_video,
    rle,
    share,
    whole,
)
from sam2vt.errors import DataError

_Found = dict["str | None", dict[int, tuple[Detection, ...]]]  # by video and frame


class _Images(NamedTuple):
    """The video and frame of each image id."""

    frames: dict[
        Any, tuple[str | None, int]
    ]  # image id -> video and frame; empty: the id is the frame's index
    counts: dict[str | None, int]  # the number of images of each video
    names: dict[Any, Any]  # category id -> class


def read_detections(
    path: str, video_ids: Collection[str], images_path: str | None = None, min_score: float = 0.0
) -> Detections:
    """Return the detections that score at least `min_score`, for the videos of the source.

    A JSON list contains COCO results. `images_path` is the COCO JSON of their images; without it, `image_id`
    is the frame's index in the only video. A JSON object is our format of version 1. Raises DataError with
    all faults, and if there is no detection or none scores high enough.
    """
    path = os.fspath(path)
    if not 0 <= min_score <= 1:
        raise DataError(f"--min-score: is {min_score}; allowed is a number from 0 to 1")
    images = _Images({}, {}, {})
    if is_coco := isinstance(load_json(path), list):
        images = _read_images(images_path, video_ids) if images_path else _of_only_video(path, video_ids)
        found = _read_results(path, images)
    elif images_path is not None:
        raise DataError(
            f"{path}: is no list of COCO's results; leave {images_path} (--detections-images) out, or give "
            "the results of the detector",
            file=path,
        )
    else:
        found = _read_own(path)
    check_videos(path, found, video_ids)
    return Detections(path, _scoring(path, found, min_score), images.counts, is_coco)


def _scoring(path: str, found: _Found, least: float) -> _Found:
    scores = [each.score for frames in found.values() for frame in frames.values() for each in frame]
    if not scores:
        raise DataError(
            f"{path}: has no detection on any frame, so no object would begin; check what the detector "
            "wrote, or leave --detections out",
            file=path,
        )
    if max(scores) < least:
        raise DataError(
            f"{path}: none of its {len(scores)} detections scores at least {least:g} (--min-score); the "
            f"highest score is {max(scores):g}: lower --min-score",
            file=path,
        )
    return {
        video: {frame: tuple(each for each in all_ if each.score >= least) for frame, all_ in frames.items()}
        for video, frames in found.items()
    }


_FRAME: dict[str, Check] = {"frame": whole(0), "detections": listed(0)}
_DETECTION: dict[str, Check] = {
    "class": name,
    "score": share,
    "box": numbers(4, "x0, y0, x1, y1"),
    "mask": rle,
}


def _read_own(path: str) -> _Found:
    faults, videos = read_by_video(path, "frames", least=0)
    found: _Found = {}
    for video, (where, entries) in videos.items():
        frames = found.setdefault(video, {})
        for i, entry in enumerate(entries):
            place = at(where, f"frames[{i}]")
            fields = faults.fields(entry, place, _FRAME, _FRAME)
            if fields.get("frame") in frames:
                faults.add(place, f"is frame {fields['frame']} again; put all its detections into one entry")
            if "frame" in fields:
                place = at(where, f"frame {fields['frame']}")
            each = [
                _read_one(faults, path, at(place, f"detections[{n}]"), detection)
                for n, detection in enumerate(fields.get("detections", []))
            ]
            frames[fields.get("frame", -1)] = tuple(filter(None, each))
    faults.check()
    return found


def _read_one(faults: Faults, path: str, where: str, entry: Any) -> Detection | None:
    before = faults.count
    fields = faults.fields(entry, where, _DETECTION, ("class",))
    if faults.count == before and ("box" in fields) == ("mask" in fields):
        has = "both box and mask" if "box" in fields else "neither box nor mask"
        faults.add(where, f"has {has}; allowed is one of them")
    if faults.count > before:
        return None
    return _detection(faults, path, where, fields["class"], fields, fields.get("box"), fields.get("mask"))


def _detection(
    faults: Faults, path: str, where: str, kind: str, fields: Mapping[str, Any], box: Any, mask: Any
) -> Detection | None:
    if box is not None and (box[0] >= box[2] or box[1] >= box[3]):
        faults.add(where, f"the box {box} (x0, y0, x1, y1) has no area; leave the detection out")
        return None
    return Detection(kind, fields.get("score", 1.0), box, mask, f"{path}: {where}")


def _id(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"is {shown(value)}; allowed is the id of an image, a whole number or a text")
    return value


_RESULT: dict[str, Check] = {
    "image_id": _id,
    "category_id": _id,
    "bbox": numbers(4, "x, y, width, height"),
    "segmentation": rle,
    "score": share,
}


def _read_results(path: str, images: _Images) -> _Found:
    """Return COCO results; if one has a mask and a box, the mask counts."""
    faults = Faults(path)
    grouped: dict[str | None, dict[int, list[Detection]]] = {video: {} for video in images.counts or [None]}
    for i, entry in enumerate(load_json(path)):
        where, before = f"[{i}]", faults.count
        # Detectors write fields of their own beside COCO's.
        fields = faults.fields(entry, where, _RESULT, ("image_id", "category_id", "score"), others=True)
        if faults.count == before and not fields.keys() & {"bbox", "segmentation"}:
            faults.add(where, "has neither bbox nor segmentation; allowed is either, or both")
        if faults.count > before:
            continue
        frame = _frame_of(faults, where, fields["image_id"], images)
        category = same_id(images.names, fields["category_id"])
        kind = str(images.names.get(category) or f"class {category}")
        mask, box = fields.get("segmentation"), fields.get("bbox")
        corners = None if mask or not box else (box[0], box[1], box[0] + box[2], box[1] + box[3])
        detection = _detection(faults, path, where, kind, fields, corners, mask)
        if frame and detection:
            grouped[frame[0]].setdefault(frame[1], []).append(detection)
    faults.check()
    # On a listed image without a result nothing was found.
    for video, count in images.counts.items():
        for place in range(min(grouped[video], default=count), count):
            grouped[video].setdefault(place, [])
    return {
        video: {frame: tuple(each) for frame, each in frames.items()} for video, frames in grouped.items()
    }


def _frame_of(faults: Faults, where: str, image_id: Any, images: _Images) -> tuple[str | None, int] | None:
    try:
        if not images.frames:
            return None, whole(0)(image_id)
    except ValueError as error:
        faults.add(f"{where}, image_id", f"{error}: a frame's index, or give --detections-images")
        return None
    found = images.frames.get(same_id(images.frames, image_id))
    if found is None:
        faults.add(
            f"{where}, image_id", f"is {shown(image_id)}, which the JSON of images does not list; add it"
        )
    return found


def _of_only_video(path: str, video_ids: Collection[str]) -> _Images:
    if len(video_ids) != 1:
        raise DataError(
            f"{path}: COCO's results name images by ids, and the source has {len(video_ids)} videos; say "
            "which images these are with --detections-images, a COCO JSON with images and their video_id",
            file=path,
        )
    return _Images({}, {}, {})


def _read_images(path: str, video_ids: Collection[str]) -> _Images:
    """Return the video and frame of each image of a COCO JSON: its place among the images of its video."""
    data = load_json(path)
    images = field(data, "images", list, path)
    check_objects(images, "images", path)
    by_id(path, images, "images")
    grouped = list_videos(path, images)
    titles = _video_names(path, data)
    frames: dict[Any, tuple[str | None, int]] = {}
    counts: dict[str | None, int] = {}
    for video, each in grouped.items():
        # The id as our reader of datasets has it, the name, or the last folder of the files' paths.
        own = [str(video), str(titles.get(video, video)), os.path.basename(str(video))]
        key: str | None = next((name for name in own if name in video_ids), own[0])
        if len(grouped) == 1 and all(image.get("video_id") is None for image in each):
            key = None  # nothing tells its name
        counts[key] = len(each)
        frames |= {image["id"]: (key, i) for i, image in enumerate(in_order(each, path))}
    return _Images(frames, counts, _classes(path, data))


def _classes(path: str, data: dict[str, Any]) -> dict[Any, Any]:
    faults, titles = Faults(path), category_names(path, data)
    for key, title in titles.items():
        try:
            name(title)
        except ValueError as error:
            faults.add(f"category {key}, name", str(error))
    faults.check()
    return titles


def _video_names(path: str, data: dict[str, Any]) -> dict[Any, Any]:
    videos = data.get("videos") or []
    if not isinstance(videos, list):
        raise DataError(f"{path}: videos is {shown(videos)}; it must be a list of objects", file=path)
    check_objects(videos, "videos", path)
    return {
        each["id"]: each["name"]
        for each in videos
        if isinstance(each.get("id"), (int, str)) and each.get("name")
    }
