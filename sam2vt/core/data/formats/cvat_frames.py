"""The frames of a CVAT task on disk, and which number of the task each has."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from sam2vt.core.data.formats.cvat_task import Task
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    files_in,
    some,
    stem,
    subfolders,
)
from sam2vt.core.data.frames.images import image_size
from sam2vt.core.data.frames.video import probe_video
from sam2vt.errors import DataError

XML = "annotations.xml"
# As CVAT writes a video's frames; a task of images keeps the names that they came with.
_FRAME_OF_VIDEO = re.compile(r"frame_([0-9]{6,9})")


class Frames(NamedTuple):
    """Images, or a video."""

    where: str
    numbers: list[int]  # in the task, of each frame in order
    size: tuple[int, int]  # (height, width)
    paths: tuple[str, ...] | None = None
    video: str | None = None


def find_frames(folder: str, task: Task) -> Frames:
    """Raises DataError where there are none, or nothing says which is which."""
    images = _image_folder(folder)
    if images is not None:
        names = files_in(images, IMAGE_EXTENSIONS)
        paths = tuple(os.path.join(images, name) for name in names)
        return Frames(images, _number(images, names, task), image_size(paths[0], "frame"), paths)
    videos = files_in(folder, VIDEO_EXTENSIONS)
    if len(videos) != 1 or task.is_of_images:
        beside = "several videos" if videos else "neither images/ nor a video"
        what = "a video, though the task was made of images," if len(videos) == 1 else beside
        raise DataError(
            f"{folder}: has {XML}, but {what} beside it; export the task with its images, or put the one "
            "video of the task there"
        )
    video = os.path.join(folder, videos[0])
    probe = probe_video(video)
    return Frames(video, list(range(probe.num_frames)), (probe.height, probe.width), video=video)


def _number(images: str, names: list[str], task: Task) -> list[int]:
    """By the names that CVAT gives to a video's frames, else by their order among the task's frames."""
    told = [_FRAME_OF_VIDEO.fullmatch(stem(name)) for name in names]
    numbers = [int(each[1]) for each in told if each]
    if not task.is_of_images and len(numbers) == len(names):
        _check_numbers(images, numbers, names, task)
        return numbers
    if task.frames is None or len(task.frames) != len(names):
        has = "does not tell its frames" if task.frames is None else f"has {len(task.frames)}: {task}"
        raise DataError(
            f"{images}: which frame is which is not clear: {len(names)} images, such as {names[0]}, and the "
            f"task {has}. Allowed are a video's frames as CVAT names them (frame_000000), or all images of "
            "the task: restore deleted frames in CVAT and export it with its images"
        )
    if task.is_of_images and sorted(names) != names:
        raise DataError(
            f"{images}: the order of the task's images is not clear: by the alphabet, as CVAT sorts them "
            f"unless told otherwise, it is {some(sorted(names), 3)}, by their numbers {some(names, 3)}. "
            "Export the task as COCO 1.0, which names the image of each mask"
        )
    return list(task.frames)


def _check_numbers(images: str, numbers: list[int], names: list[str], task: Task) -> None:
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{images}: two images are of the same frame ({some(names)}); remove one")
    if task.frames is not None and len(task.frames) == len(numbers) and set(task.frames) != set(numbers):
        raise DataError(
            f"{images}: has as many images as the task has frames, but they are numbered {min(numbers)} to "
            f"{max(numbers)}, and the task has {task}; allowed are the numbers that CVAT writes: export the "
            "task with its images, or rename them"
        )


def _image_folder(folder: str) -> str | None:
    """images/, or the one folder in it, as exports of a project have it."""
    top = os.path.join(folder, "images")
    inner = [os.path.join(top, name) for name in subfolders(top)]
    holding = [each for each in (top, *inner) if files_in(each, IMAGE_EXTENSIONS)]
    if len(holding) > 1:
        raise DataError(
            f"{top}: several folders hold images: {some(holding)}; a task is one video: "
            "export each task alone"
        )
    return holding[0] if holding else None
