"""Read the task or job of a CVAT XML, and find its frames: images/ or a video beside the XML."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element

from sam2vt.core.data.formats.frame_order import frame_order
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    and_inner,
    files_in,
    some,
    stem,
)
from sam2vt.core.data.frames.images import image_size
from sam2vt.core.data.frames.video import probe_video
from sam2vt.errors import DataError

XML = "annotations.xml"
# As CVAT writes a video's frames; a task of images keeps the names that they came with.
_FRAME_OF_VIDEO = re.compile(r"frame_([0-9]{6,9})")
_OF_IMAGES = "annotation"  # CVAT's word; a video is "interpolation"
_STEP = re.compile(r"step\s*=\s*([1-9]\d{0,8})")


@dataclass(frozen=True)
class Task:
    """Frames have the numbers that shapes use: those of the video, counted from 0."""

    is_of_images: bool = False  # it is of a video, or the XML does not say
    frames: range | None = None  # all its frames; None: the XML does not say
    jobs: tuple[tuple[int, int], ...] = ()  # first and last frame of each; empty: they have all frames

    def covers(self, number: int) -> bool:
        """Return whether this frame was to be annotated."""
        if self.frames is not None and number not in self.frames:
            return False
        return not self.jobs or any(first <= number <= last for first, last in self.jobs)

    def __str__(self) -> str:
        if self.frames is None:
            return "any frames"
        step = f" in steps of {self.frames.step}" if self.frames.step > 1 else ""
        jobs = f" in jobs of {some(f'{first} to {last}' for first, last in self.jobs)}" if self.jobs else ""
        return f"frames {self.frames.start} to {self.frames.stop - 1}{step}{jobs}"


def read_task(meta: Element, path: str) -> Task:
    """Return the task of <meta>. Raises DataError for several tasks, whose frames cannot be distinguished."""
    tasks = meta.findall("project/tasks/task")
    check_single([str(each.findtext("id")) for each in tasks], path)
    job, task = meta.find("job"), tasks[0] if tasks else meta.find("task")
    # A job is exported with its task: its own bounds say what it covers.
    if job is not None:
        return Task(_is_of_images(job), _frames(job, path))
    if task is None:
        return Task()
    frames = _frames(task, path)
    return Task(_is_of_images(task), frames, _jobs(task, frames, path))


def check_single(tasks: list[str], path: str) -> None:
    """Refuse several tasks in one XML."""
    if len(tasks) > 1:
        raise DataError(
            f"{path}: holds {len(tasks)} tasks of a project ({some(tasks)}), as one video; allowed is "
            "one task: export each task alone (Actions > Export task dataset), into a folder of its own"
        )


def _is_of_images(entry: Element) -> bool:
    return (entry.findtext("mode") or "").strip() == _OF_IMAGES


def _frames(entry: Element, path: str) -> range | None:
    if entry.find("start_frame") is None or entry.find("stop_frame") is None:
        return None
    step = _STEP.search(entry.findtext("frame_filter") or "")
    first, last = (whole(entry.findtext(name), name, path) for name in ("start_frame", "stop_frame"))
    if last < first:
        raise DataError(f"{path}: start_frame {first} is after stop_frame {last}; export the task again")
    return range(first, last + 1, int(step[1]) if step else 1)


def _jobs(task: Element, frames: range | None, path: str) -> tuple[tuple[int, int], ...]:
    """Return the jobs' bounds; CVAT counts them in frames of the task, without start and step."""
    if frames is None:
        return ()
    segments = task.findall("segments/segment")
    bounds = [[whole(each.findtext(name), name, path) for name in ("start", "stop")] for each in segments]
    # Jobs are counted in frames of the task, shapes in frames of the video.
    at, step = frames.start, frames.step
    return tuple((at + first * step, at + last * step) for first, last in bounds)


def whole(text: str | None, name: str, where: str) -> int:
    """Return the number in an element or attribute `name`. Raises DataError for anything else."""
    text = (text or "").strip()
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise DataError(f"{where}: {name} is {text[:40]!r}; it must be a whole number: export the task again")
    return int(text)


class Frames(NamedTuple):
    """Images, or a video."""

    where: str
    numbers: list[int]  # in the task, of each frame in order
    size: tuple[int, int]  # (height, width)
    paths: tuple[str, ...] | None = None
    video: str | None = None


def find_frames(folder: str, task: Task) -> Frames:
    """Return the frames. Raises DataError if there are none, or if they cannot be distinguished."""
    images = _image_folder(folder)
    if images is not None:
        names = files_in(images, IMAGE_EXTENSIONS)
        names = [names[place] for place in frame_order([stem(name) for name in names], images)]
        paths = tuple(os.path.join(images, name) for name in names)
        return Frames(images, _number_images(images, names, task), image_size(paths[0], "frame"), paths)
    videos = files_in(folder, VIDEO_EXTENSIONS)
    if len(videos) != 1 or task.is_of_images:
        beside = "several videos" if videos else "neither images/ nor a video"
        what = "a video, though the task was made of images," if len(videos) == 1 else beside
        raise DataError(
            f"{folder}: has {XML}, but {what} beside it; export the task with its images, or "
            "put the one video of the task there"
        )
    video = os.path.join(folder, videos[0])
    probe = probe_video(video)
    return Frames(video, list(range(probe.num_frames)), (probe.height, probe.width), video=video)


def _number_images(images: str, names: list[str], task: Task) -> list[int]:
    """Number images by the names that CVAT gives to a video's frames, else by their order in the task."""
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
    # CVAT sorts by characters, we by numbers: img10 may come before img2.
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
    """Return images/, or the one folder in it, as exports of a project have it."""
    top = os.path.join(folder, "images")
    holding = [each for each in and_inner(top) if files_in(each, IMAGE_EXTENSIONS)]
    if len(holding) > 1:
        raise DataError(
            f"{top}: several folders hold images: {some(holding)}; a task is a video: export each task alone"
        )
    return holding[0] if holding else None
