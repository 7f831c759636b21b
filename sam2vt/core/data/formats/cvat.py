"""Read CVAT for video 1.1: annotations.xml with tracks of masks or polygons, beside images/ or the video.

A track is an object on all frames for which the export has a shape, including interpolated ones. On a frame
of the task without a shape, or with one marked as outside, the object is known to be absent. Frames that the
task left out are not annotated. Boxes are not masks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from sam2vt.core.data.formats.cvat_task import XML, Frames, Task, check_single, find_frames, read_task, whole
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import and_inner, some
from sam2vt.core.data.masks.rle import ROWS
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

_SHAPES = ("mask", "polygon")
_NUMBERS = re.compile(r"\s*\d{1,9}(\s*,\s*\d{1,9})*\s*")
_START_BYTES = 4096

Shapes = dict[int, dict[int, list[Any]]]  # frame -> object id -> segmentations


def load_cvat(folders: list[str], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of each folder's task. Raises DataError naming track and frame, or what is missing."""
    return options.records(
        _record,
        folders,
        lambda folder: {"video": os.path.basename(folder), "file": os.path.join(folder, XML)},
    )


def _record(folder: str) -> VideoRecord:
    path = os.path.join(folder, XML)
    task = _read_task(path)
    frames = find_frames(folder, task)
    shapes, names = _read_tracks(path, frames)
    _check_shapes(path, shapes, frames, task)
    covered = {place: number for place, number in enumerate(frames.numbers) if task.covers(number)}
    return VideoRecord(
        os.path.basename(folder),
        len(frames.numbers),
        *frames.size,
        {place: Segmentations(shapes.get(number, {})) for place, number in covered.items()},
        frame_paths=frames.paths,
        video_path=frames.video,
        object_ids=tuple(sorted(names)),
        object_names=names,
        source=path,
    )


def _check_shapes(path: str, shapes: Shapes, frames: Frames, task: Task) -> None:
    numbers = set(frames.numbers)
    strange = [frame for frame in shapes if frame not in numbers]
    if strange:
        raise DataError(
            f"{path}: frame {min(strange)} has a shape, but {frames.where} has {len(numbers)} frames, "
            f"{min(numbers)} to {max(numbers)}; export the task with its images, or put its own video there"
        )
    beyond = [frame for frame in shapes if not task.covers(frame)]
    if beyond:
        raise DataError(
            f"{path}: frame {min(beyond)} has a shape, but the task has {task}; export the task again",
            frame=frames.numbers.index(min(beyond)),
        )


def _read_task(path: str) -> Task:
    """Return what the XML says of the task."""
    with closing(_elements(path)) as elements:
        metas = (element for element in elements if element.tag == "meta")
        return next((read_task(meta, path) for meta in metas), Task())


def _read_tracks(path: str, frames: Frames) -> tuple[Shapes, dict[int, str]]:
    """Return the shapes of all tracks, and the label of each."""
    shapes, names = Shapes(), dict[int, str]()
    tasks: dict[str, None] = {}
    places = {number: place for place, number in enumerate(frames.numbers)}
    # Tracks stream one by one: exports of long videos exceed memory as a tree.
    for element in _elements(path):
        if element.tag == "meta":
            continue
        number = whole(element.get("id"), "id", f"{path}: a track") + 1  # ids begin with 0, objects with 1
        where = f"{path}: track {element.get('id')} ({element.get('label')})"
        if number in names:
            what = "another track has this id; give each object a track of its own"
            raise DataError(f"{where}: {what}", object=number)
        names[number] = str(element.get("label") or f"track {element.get('id')}")
        if element.get("task_id"):
            tasks[str(element.get("task_id"))] = None
            check_single(list(tasks), path)
        with located(object=number):
            for frame, segmentation in _visible(element, where, places):
                shapes.setdefault(frame, {}).setdefault(number, []).append(segmentation)
    if not names:
        raise DataError(
            f"{path}: holds no track; annotate objects with tracks (not shapes), export as CVAT for video 1.1"
        )
    return shapes, names


def _visible(track: Element, where: str, places: dict[int, int]) -> Iterator[tuple[int, Any]]:
    """Yield the frame and segmentation of each shape that is not outside."""
    found = {shape.tag for shape in track}
    if not found & set(_SHAPES):
        what = f"only {some(sorted(found))} shapes" if found else "no shape"
        raise DataError(
            f"{where} has {what}; allowed are masks and polygons: draw them in CVAT, or remove the track"
        )
    for shape in track:
        if shape.get("outside") == "1" or shape.tag == "attribute":
            continue
        frame = whole(shape.get("frame"), "frame", where)
        if shape.tag not in _SHAPES:
            raise DataError(
                f"{where}, frame {frame}: the shape is a {shape.tag}; allowed are masks and polygons: draw "
                "one there in CVAT, or mark the object as outside",
                frame=places.get(frame),
            )
        with located(frame=places.get(frame)):
            segmentation = _segmentation(shape, f"{where}, frame {frame}")
        yield frame, segmentation


def _elements(path: str) -> Generator[Element, None, None]:
    """Yield <meta> and each track; each is freed when the next is asked for."""
    # The standard parser expands entities, so a small file could fill the memory.
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    try:
        for _, element in iterparse(path, events=("end",), forbid_dtd=True):
            if element.tag in ("meta", "track"):
                yield element
                element.clear()
    except DefusedXmlException as error:
        raise DataError(
            f"{path}: holds an XML entity or document type ({type(error).__name__}), which no export of CVAT "
            "has; export the task again"
        ) from None
    except (ParseError, OSError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as XML: {error}; export the task again") from None


def _segmentation(shape: Element, where: str) -> Any:
    if shape.tag == "polygon":
        return [_points(shape.get("points") or "", where)]
    counts = shape.get("rle") or ""
    if not _NUMBERS.fullmatch(counts):
        raise DataError(
            f"{where}: rle is {counts[:40]!r}; it must be run lengths such as 3, 5, 2: export again"
        )
    box = [whole(shape.get(name), name, where) for name in ("left", "top", "width", "height")]
    return {ROWS: [int(each) for each in counts.split(",")], "box": box}


def _points(text: str, where: str) -> list[float]:
    try:
        pairs = [point.split(",") for point in text.split(";")]
        return [float(value) for x, y in pairs for value in (x, y)]
    except ValueError:
        raise DataError(
            f"{where}: points are {text[:40]!r}; they must be pairs such as 3.5,7;9,12: export again"
        ) from None


def _recognise(path: str) -> Found | None:
    if os.path.basename(path) == XML:
        path = os.path.dirname(path)
    folders = [each for each in and_inner(path) if _is_cvat(os.path.join(each, XML))]
    if not folders:
        return None
    names = some(os.path.relpath(os.path.join(each, XML), path) for each in folders)
    return Found("CVAT for video", f"{names} is an XML of annotations", partial(load_cvat, folders))


def _is_cvat(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return b"<annotations" in file.read(_START_BYTES)


LAYOUT = Layout(f"CVAT for video 1.1: {XML} beside images/ or the video, or a folder a task", _recognise)
