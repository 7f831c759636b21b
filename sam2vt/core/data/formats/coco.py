"""COCO video JSON: images with `video_id` and an order, annotations with `segmentation` and an identity.

- Frames of a video are ordered by `order_in_video`, else `frame_id`, else by their names.
- Files are found by `path`, else `file_name`, under the JSON's folder or `image_root`.
- Segmentations are RLE, compressed or not, or polygons; who is who is `coco_identity`'s matter.
- An image is annotated if it has an annotation. One without any is not annotated, since nothing tells
  whether somebody looked, unless images carry a flag that does (`is_annotated`, `annotated`,
  `is_det_keyframe`, `is_keyframe`): where it is true, an image without annotations is known to be empty.
- Crowd regions (`iscrowd`) without an identity are no objects; a note says how many were left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from sam2vt.core.data.formats.coco_identity import assign_object_ids
from sam2vt.core.data.formats.coco_json import (
    JsonObject,
    Place,
    category_names,
    find_json,
    group_by_image,
    json_kind,
    read_json,
)
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import natural_key, stem
from sam2vt.core.data.formats.paths import find_files, with_slashes
from sam2vt.core.data.formats.records import image_record
from sam2vt.core.data.frames.images import image_size
from sam2vt.core.types import FrameAnnotation, Segmentations, VideoRecord
from sam2vt.errors import DataError, located

_ORDER_FIELDS = ("order_in_video", "frame_id")
# Exports name it differently; `sam2vt convert` writes is_annotated.
_FLAGS = ("is_annotated", "annotated", "is_det_keyframe", "is_keyframe")


def load_coco(json_path: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every video of a JSON. Raises DataError naming the image or annotation."""
    with located(file=json_path):
        data = read_json(json_path)
        images, annotations = data["images"], data["annotations"]
        by_image = group_by_image(json_path, images, annotations, options, _places(json_path, images))
        names = category_names(json_path, data)
        # As text: ids may be numbers and names.
        videos = sorted(list_videos(json_path, images).items(), key=lambda item: str(item[0]))
    roots = image_roots(json_path, options)
    return options.records(
        lambda item: _record(json_path, *item, by_image, names, roots, options),
        videos,
        lambda item: {"video": str(item[0]), "file": json_path},
    )


def _places(json_path: str, images: list[JsonObject]) -> Callable[[Any], Place]:
    """Return image id -> its video and frame, as far as the JSON tells; worked out for the first fault."""

    @cache
    def table() -> dict[Any, Place]:
        found: dict[Any, Place] = {}
        for video_id, frames in list_videos(json_path, images).items():
            with suppress(DataError):  # told when the video is read
                frames = in_order(frames, json_path)
                found |= {each["id"]: {"video": str(video_id), "frame": i} for i, each in enumerate(frames)}
        return found

    return lambda image_id: table().get(image_id, {})


def _record(
    json_path: str,
    video_id: int | str,
    frames: list[JsonObject],
    by_image: dict[Any, list[JsonObject]],
    names: dict[Any, Any],
    roots: list[str],
    options: ReadOptions,
) -> VideoRecord:
    where = f"{json_path}: video {video_id}"
    frames = in_order(frames, where)
    paths = find_images(frames, roots, where, options)
    size = common_size(frames, paths, where)
    known = {i: by_image[frame["id"]] for i, frame in enumerate(frames) if _is_annotated(frame, by_image)}
    objects, object_names = assign_object_ids(known, options.identity, names, size, where)
    segmented: dict[int, FrameAnnotation] = {i: Segmentations(each) for i, each in objects.items()}
    ids = sorted({key for each in objects.values() for key in each})
    if not ids:
        raise DataError(
            f"{where}: none of its {len(frames)} images has an annotation of an object (iscrowd=1 without a "
            "track id is none); annotate an object or leave the video out"
        )
    fields: dict[str, Any] = {"object_ids": tuple(ids), "object_names": object_names}
    return image_record(str(video_id), paths, size, segmented, json_path, **fields)


def list_videos(json_path: str, images: list[JsonObject]) -> dict[int | str, list[JsonObject]]:
    """Return video id, or folder where no image has one -> its images.

    Raises DataError where only some images have one, and where a number and a text read alike.
    """
    if all(image.get("video_id") is None for image in images):  # CVAT: a task is a video
        return _by_folder(images)
    videos: dict[int | str, list[JsonObject]] = {}
    for place, image in enumerate(images):
        video_id = image.get("video_id")
        if isinstance(video_id, bool) or not isinstance(video_id, (int, str)) or video_id == "":
            raise DataError(
                f"{json_path}: images[{place}] (id {image['id']}, {image.get('file_name')}) has video_id "
                f"{video_id!r}; every image of a COCO video JSON needs the number or name of its video"
            )
        videos.setdefault(video_id, []).append(image)
    # As records both would have one id.
    alike = next((each for each in videos if isinstance(each, int) and str(each) in videos), None)
    if alike is not None:
        raise DataError(
            f"{json_path}: images have the video_id {alike} as a number and as a text; write one of the two"
        )
    return videos


def _by_folder(images: list[JsonObject]) -> dict[int | str, list[JsonObject]]:
    """Return folder -> its images, each a video, where no image has a video_id."""
    videos: dict[int | str, list[JsonObject]] = {}
    for image in images:
        folder = os.path.dirname(with_slashes(str(image.get("file_name") or image.get("path") or "")))
        videos.setdefault(folder or "video", []).append(image)
    return videos


def in_order(frames: list[JsonObject], where: str) -> list[JsonObject]:
    """Return a video's images by their order field, else by name; DataError where that is not clear."""
    for field in _ORDER_FIELDS:
        values = [frame.get(field) for frame in frames]
        if all(value is None for value in values):
            continue
        wrong = next((i for i, value in enumerate(values) if not isinstance(value, (int, float))), None)
        if wrong is not None:
            raise DataError(
                f"{where}: image {frames[wrong]['id']} has {field} {values[wrong]!r}, others of the video "
                "have numbers; allowed is a number in every image of a video, or in none"
            )
        (value, count), *_ = Counter(values).most_common(1)
        if count > 1:
            raise DataError(f"{where}: two images have {field} {value}; the order must be clear")
        return sorted(frames, key=lambda frame: frame[field])
    return sorted(frames, key=lambda frame: natural_key(_names(frame, where)[0]))


def _names(frame: JsonObject, where: str) -> list[str]:
    names = [str(frame[field]) for field in ("path", "file_name") if frame.get(field)]
    if not names:
        raise DataError(f"{where}: image {frame['id']} has neither path nor file_name")
    return names


def image_roots(json_path: str, options: ReadOptions) -> list[str]:
    """Return where the files of a JSON's images are looked for.

    Of annotations/instances_train.json also in images/train and images, beside annotations/.
    """
    given = [os.path.abspath(options.image_root)] if options.image_root else []
    folder, name = os.path.split(os.path.abspath(json_path))
    if os.path.basename(folder) != "annotations":
        return [*given, folder]
    images = os.path.join(os.path.dirname(folder), "images")
    subset = stem(name).partition("_")[2]
    beside = [os.path.join(images, subset), images] if subset else [images]
    return [*given, folder, *filter(os.path.isdir, beside)]


def find_images(frames: list[JsonObject], roots: list[str], where: str, options: ReadOptions) -> list[str]:
    """Return the file of each image. Raises DataError naming those that are missing."""
    return find_files([_names(frame, where) for frame in frames], roots, where, options)


def common_size(frames: list[JsonObject], paths: list[str], where: str) -> tuple[int, int]:
    """Return (height, width) of the first file, which every image of the video must have."""
    with located(frame=0):
        size = image_size(paths[0], "frame")
    for place, frame in enumerate(frames):
        stated = (frame.get("height", size[0]), frame.get("width", size[1]))
        if stated != size:
            raise DataError(
                f"{where}: image {frame['id']} states height x width {stated[0]} x {stated[1]}, but "
                f"{paths[0]} is {size[0]} x {size[1]}; all frames of a video have one size",
                frame=place,
            )
    return size


def _is_annotated(frame: JsonObject, by_image: dict[Any, list[JsonObject]]) -> bool:
    return bool(by_image[frame["id"]]) or any(frame.get(flag) is True for flag in _FLAGS)


def _recognise(path: str) -> Found | None:
    json_path = find_json(path)
    if json_path is None or json_kind(json_path) not in ("coco", "masklets"):
        return None
    return Found(
        "COCO video JSON",
        f"{os.path.basename(json_path)} has images and annotations",
        lambda options: load_coco(json_path, options),
        takes=("identity", "image_root", "allow_absolute_paths"),
    )


LAYOUT = Layout("a COCO video JSON, or one JSON in the folder or its annotations/", _recognise)
