"""Read COCO video JSON: images with `video_id` and an order, annotations with `segmentation` and identity.

- Frames of a video are ordered by `order_in_video`, `frame_id`, `frame_index` (TAO), else by their names.
- Files are found by `path`, else `file_name`, under the JSON's folder or `image_root`.
- Segmentations are RLE, compressed or not, or polygons. `coco_identity` decides which object they show.
- An image is annotated if it has an annotation. Without one it is not annotated, unless a flag says so
  (`is_annotated`, `annotated`, `is_det_keyframe`, `is_keyframe`). If the flag is true, an image without
  annotations is known to be empty.
- Crowd regions (`iscrowd`) without an identity are not objects; a note says how many were left out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

from sam2vt.core.data.formats.coco_identity import assign_object_ids
from sam2vt.core.data.formats.coco_json import (
    CocoJson,
    JsonObject,
    Place,
    category_names,
    check_stated_size,
    group_by_image,
    json_home,
    no_object,
    read_json,
    recognise_json,
)
from sam2vt.core.data.formats.frame_order import frame_numbers, frame_order, numbered_frames
from sam2vt.core.data.formats.layout import Found, Layout, NoFrames, ReadOptions
from sam2vt.core.data.formats.listing import VIDEO_EXTENSIONS, files_in, some, stem
from sam2vt.core.data.formats.paths import find_files, with_slashes
from sam2vt.core.data.formats.records import file_record, first_size, image_record
from sam2vt.core.data.frames.video import VideoProbe, probe_video
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

_IMAGES = ("images", "frames", "JPEGImages")  # folders beside a JSON, or beside its annotations/
_ORDER_FIELDS = ("order_in_video", "frame_id", "frame_index")
# Exports name it differently; `sam2vt convert` writes is_annotated.
_FLAGS = ("is_annotated", "annotated", "is_det_keyframe", "is_keyframe")


def load_coco(json_path: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every video of a JSON. Raises DataError naming the image or annotation."""
    with located(file=json_path):
        data = read_json(json_path)
        images, annotations = data["images"], data["annotations"]
        by_image = group_by_image(json_path, images, annotations, options, _places(json_path, images))
        names, roots = category_names(json_path, data), image_roots(json_path, options)
        # As text: ids may be numbers and names.
        videos = sorted(list_videos(json_path, images).items(), key=lambda item: str(item[0]))
    json = CocoJson(json_path, by_image, names, roots, options)
    return options.records(
        lambda item: _record(json, *item, len(videos) == 1),
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


def _record(json: CocoJson, video_id: int | str, frames: list[JsonObject], is_only: bool) -> VideoRecord:
    where = f"{json.path}: video {video_id}"
    frames = in_order(frames, where)
    places: Sequence[int] = range(len(frames))
    try:
        paths, size = find_images(json, frames, where)
        build = partial(image_record, str(video_id), paths, size)
    except NoFrames:
        video = _find_video(json, _names(frames[0], where)[0], is_only)
        if video is None:
            raise
        places, size = _match_images(video, frames, where, json.options.note), (video.height, video.width)
        build = partial(file_record, str(video_id), video)
    # An image without annotations is empty, where a flag says that somebody looked.
    flagged = {frame["id"] for frame in frames if any(frame.get(flag) is True for flag in _FLAGS)}
    each = [(place, frame["id"], json.annotations[frame["id"]]) for place, frame in zip(places, frames)]
    known = {place: found for place, image_id, found in each if found or image_id in flagged}
    objects, names = assign_object_ids(known, json.options.identity, json.names, size, where)
    ids = sorted({key for each in objects.values() for key in each})
    if not ids:
        raise no_object(where, len(frames))
    segmented = {place: Segmentations(objects[place]) for place in sorted(objects)}
    return build(segmented, json.path, object_ids=tuple(ids), object_names=names)


def list_videos(json_path: str, images: list[JsonObject]) -> dict[int | str, list[JsonObject]]:
    """Return video id -> its images; the key is the folder if no image has a video id.

    Raises DataError if only some images have one, and where a number and a text look the same.
    """
    videos: dict[int | str, list[JsonObject]] = {}
    if all(image.get("video_id") is None for image in images):  # CVAT: a task is a video
        for image in images:
            folder = os.path.dirname(with_slashes(str(image.get("file_name") or image.get("path") or "")))
            videos.setdefault(folder or "video", []).append(image)
        return videos
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


def in_order(frames: list[JsonObject], where: str) -> list[JsonObject]:
    """Return a video's images by their order field, else by name; DataError if that is not clear."""
    for field in _ORDER_FIELDS:
        values = [_order_value(frame.get(field)) for frame in frames]
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
        return [frames[place] for place in sorted(range(len(frames)), key=lambda place: values[place])]
    names = [stem(_names(frame, where)[0]) for frame in frames]
    return [frames[place] for place in frame_order(names, where)]


def _order_value(value: Any) -> Any:
    """Return a whole number that is written as text as a number."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value) else value


def _names(frame: JsonObject, where: str) -> list[str]:
    names = [str(frame[field]) for field in ("path", "file_name") if frame.get(field)]
    if not names:
        raise DataError(f"{where}: image {frame['id']} has neither path nor file_name")
    return names


def image_roots(json_path: str, options: ReadOptions) -> list[str]:
    """Return the folders in which the files of a JSON's images are looked up.

    For annotations/instances_train.json these include images/train and images (or frames) beside
    annotations/.
    """
    given = [os.path.abspath(options.image_root)] if options.image_root else []
    folder, name = os.path.split(os.path.abspath(json_path))
    subset = stem(name).partition("_")[2]
    tops = [os.path.join(json_home(json_path), each) for each in _IMAGES]
    beside = [each for top in tops for each in ([os.path.join(top, subset)] if subset else []) + [top]]
    return [*given, folder, *filter(os.path.isdir, beside)]


def find_images(json: CocoJson, images: list[JsonObject], where: str) -> tuple[list[str], tuple[int, int]]:
    """Return the file of each image of a video, and their common (height, width).

    Raises DataError naming files that are missing, and an image that states another size.
    """
    paths = find_files([_names(image, where) for image in images], json.roots, where, json.options)
    size = first_size(paths)
    for place, image in enumerate(images):
        with located(frame=place):
            check_stated_size(image, size, paths[0], f"{where}: image {image['id']}")
    return paths, size


# Some programs, such as CVAT, export a JSON without the images of its video.
def _find_video(json: CocoJson, name: str, is_only: bool) -> VideoProbe | None:
    """Return the video file of images that do not exist, such as `name`; None if nothing tells which.

    It is named as the images' folder, or the only file of the JSON's only video (`is_only`). It is where
    images are looked for, or in the folder above annotations/.
    """
    folders = dict.fromkeys([*json.roots, json_home(json.path)])
    videos = [os.path.join(folder, each) for folder in folders for each in files_in(folder, VIDEO_EXTENSIONS)]
    folder = os.path.basename(os.path.dirname(with_slashes(name)))
    named = [each for each in videos if folder in (os.path.basename(each), stem(os.path.basename(each)))]
    chosen = named or (videos if is_only else [])
    if len(chosen) != 1:
        return None
    json.options.note(f"{json.path}: {name} does not exist; frames are read from {chosen[0]}")
    return probe_video(chosen[0])


def _match_images(
    video: VideoProbe, images: Sequence[JsonObject], where: str, note: Callable[[str], None]
) -> Sequence[int]:
    """Return the frame of the video that each image is: in order if there are as many, else by its number.

    Raises DataError if an image states another size, its number is no frame of the video, or numbers may
    count from 0 or from 1.
    """
    size = (video.height, video.width)
    for place, image in enumerate(images):
        with located(frame=place):
            check_stated_size(image, size, video.path, f"{where}: image {image['id']}")
    if len(images) == video.num_frames:
        return range(len(images))
    names = [stem(_names(image, where)[0]) for image in images]
    numbers = frame_numbers([os.path.basename(name) for name in names])
    known = numbered_frames(numbers, video.num_frames)
    if known is None or min(known) == 1:
        raise DataError(
            f"{where}: none of its {len(images)} image files exists, and {video.path} has {video.num_frames} "
            f"frames: which are meant is not clear from the names {some(names, 3)}. Allowed are an image "
            f"per frame, or numbers that begin at 0 or end at {video.num_frames}: extract the frames, or "
            "export them with the annotation"
        )
    note(
        f"{where}: images are frames of {video.path} by their numbers: {names[0]} is frame {known[0]}, from 0"
    )
    return known


def _recognise(path: str) -> Found | None:
    what, why = "COCO video JSON", "has images and annotations"
    # A file of masklets alone: its reader says what is missing.
    return recognise_json(path, ("coco", "masklets"), what, why, load_coco, ("identity",))


LAYOUT = Layout("a COCO video JSON, or one JSON in the folder or its annotations/", _recognise)
