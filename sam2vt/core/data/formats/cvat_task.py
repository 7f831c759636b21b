"""What a CVAT XML says of its task or job: made of a video or of images, and which frames it has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sam2vt.core.data.formats.listing import some
from sam2vt.errors import DataError

_OF_VIDEO, _OF_IMAGES = "interpolation", "annotation"  # CVAT's words
_STEP = re.compile(r"step\s*=\s*([1-9]\d{0,8})")


@dataclass(frozen=True)
class Task:
    """Frames have the numbers that the shapes give them: those of the video, counted from 0."""

    mode: str = ""  # _OF_VIDEO, _OF_IMAGES, or empty: the XML does not say
    frames: range | None = None  # all its frames; None: the XML does not say
    jobs: tuple[tuple[int, int], ...] = ()  # first and last frame of each; empty: they have all frames

    @property
    def is_of_images(self) -> bool:
        return self.mode == _OF_IMAGES

    def covers(self, number: int) -> bool:
        """Whether somebody was to annotate this frame."""
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
    """From <meta>. Raises DataError for a project of several tasks, whose frames nothing tells apart."""
    tasks = meta.findall("project/tasks/task")
    check_single([str(each.findtext("id")) for each in tasks], path)
    job, task = meta.find("job"), tasks[0] if tasks else meta.find("task")
    if job is not None:  # its bounds are its own
        return Task(_mode(job), _frames(job, path))
    if task is None:
        return Task()
    frames = _frames(task, path)
    return Task(_mode(task), frames, _jobs(task, frames, path))


def check_single(tasks: list[str], path: str) -> None:
    """Refuses several tasks in one XML."""
    if len(tasks) > 1:
        raise DataError(
            f"{path}: holds {len(tasks)} tasks of a project ({some(tasks)}), numbered through as if "
            "they were one video; allowed is one task: export each task alone (Actions > Export task "
            "dataset), into a folder of its own"
        )


def _mode(entry: Element) -> str:
    mode = (entry.findtext("mode") or "").strip()
    return mode if mode in (_OF_VIDEO, _OF_IMAGES) else ""


def _frames(entry: Element, path: str) -> range | None:
    if entry.find("start_frame") is None or entry.find("stop_frame") is None:
        return None
    step = _STEP.search(entry.findtext("frame_filter") or "")
    first, last = (_number(entry, name, path) for name in ("start_frame", "stop_frame"))
    if last < first:
        raise DataError(f"{path}: start_frame {first} is after stop_frame {last}; export the task again")
    return range(first, last + 1, int(step[1]) if step else 1)


def _jobs(task: Element, frames: range | None, path: str) -> tuple[tuple[int, int], ...]:
    """CVAT counts them in frames of the task, without start and step."""
    if frames is None:
        return ()
    bounds = [
        [_number(segment, name, path) for name in ("start", "stop")]
        for segment in task.findall("segments/segment")
    ]
    at, step = frames.start, frames.step
    return tuple((at + first * step, at + last * step) for first, last in bounds)


def _number(entry: Element, name: str, path: str) -> int:
    text = (entry.findtext(name) or "").strip()
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise DataError(f"{path}: {name} is {text[:40]!r}; it must be a whole number: export the task again")
    return int(text)
