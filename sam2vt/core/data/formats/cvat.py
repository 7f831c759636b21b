"""CVAT for video 1.1: annotations.xml with tracks of masks or polygons, beside images/ or the video file.

A track is an object, on all frames that the export has a shape of it for, interpolated ones too; where it has
none, or one marked as outside, the object is known to be absent. Boxes are no masks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from sam2vt.core.data.decoding import probe_video
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    files_in,
    last_number,
    some,
    stem,
    subfolders,
)
from sam2vt.core.data.images import image_size
from sam2vt.core.data.rle import ROWS
from sam2vt.core.types import FrameAnnotation, Segmentations, VideoRecord
from sam2vt.errors import DataError

XML = "annotations.xml"
_SHAPES = ("mask", "polygon")
_NUMBERS = re.compile(r"\s*\d{1,9}(\s*,\s*\d{1,9})*\s*")
_START_BYTES = 4096

Shapes = dict[int, dict[int, list[Any]]]  # frame -> object id -> segmentations


def load_cvat(folders: list[str], options: ReadOptions) -> list[VideoRecord]:
    """A record of each folder's task. Raises DataError naming track and frame, or what is missing."""
    return options.records(_record, folders)


def _record(folder: str) -> VideoRecord:
    path = os.path.join(folder, XML)
    shapes, names = _read_tracks(path)
    numbers, source = _frames(folder)
    num_frames = len(numbers)
    strange = [frame for frame in shapes if frame not in numbers]
    if strange:
        raise DataError(
            f"{path}: frame {min(strange)} has a shape, but {source['where']} has {num_frames} frames, "
            f"{min(numbers)} to {max(numbers)}; export the task with its images, or put its own video there"
        )
    annotations: dict[int, FrameAnnotation] = {
        place: Segmentations(shapes.get(number, {})) for number, place in numbers.items()
    }
    return VideoRecord(
        video_id=os.path.basename(folder),
        num_frames=num_frames,
        height=source["size"][0],
        width=source["size"][1],
        annotations=annotations,
        frame_paths=source.get("paths"),
        video_path=source.get("video"),
        object_ids=tuple(sorted(names)),
        source=path,
        extra={"object_names": names},
    )


def _read_tracks(path: str) -> tuple[Shapes, dict[int, str]]:
    """The shapes of all tracks, and the label of each."""
    shapes: Shapes = {}
    names: dict[int, str] = {}
    for track in _tracks(path):
        number = _whole(track, "id", f"{path}: a track", least=0) + 1  # ids begin with 0, objects with 1
        where = f"{path}: track {track.get('id')} ({track.get('label')})"
        if number in names:
            raise DataError(f"{where}: another track has this id; give each object a track of its own")
        found = {shape.tag for shape in track}
        if not found & set(_SHAPES):
            what = f"only {some(sorted(found))} shapes" if found else "no shape"
            raise DataError(
                f"{where} has {what}; allowed are masks and polygons: draw them in CVAT, or remove the track"
            )
        names[number] = str(track.get("label") or f"track {track.get('id')}")
        for shape in track:
            if shape.tag in _SHAPES and shape.get("outside") != "1":
                frame = _whole(shape, "frame", where, least=0)
                shapes.setdefault(frame, {}).setdefault(number, []).append(_segmentation(shape, where, frame))
    if not names:
        raise DataError(
            f"{path}: holds no track; annotate objects with tracks (not shapes), and export "
            "as CVAT for video 1.1"
        )
    return shapes, names


def _tracks(path: str) -> Iterator[Element]:
    """Each track in turn; what is done with is let go."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    try:
        for _, element in iterparse(path, events=("end",), forbid_dtd=True):
            if element.tag == "track":
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


def _segmentation(shape: Element, where: str, frame: int) -> Any:
    where = f"{where}, frame {frame}"
    if shape.tag == "polygon":
        return [_points(shape.get("points") or "", where)]
    counts = shape.get("rle") or ""
    if not _NUMBERS.fullmatch(counts):
        raise DataError(
            f"{where}: rle is {counts[:40]!r}; it must be run lengths such as 3, 5, 2: export again"
        )
    box = [_whole(shape, name, where, least=0) for name in ("left", "top", "width", "height")]
    return {ROWS: [int(each) for each in counts.split(",")], "box": box}


def _points(text: str, where: str) -> list[float]:
    try:
        return [float(value) for point in text.split(";") for value in _pair(point)]
    except ValueError:
        raise DataError(
            f"{where}: points are {text[:40]!r}; they must be pairs such as 3.5,7;9,12: export again"
        ) from None


def _pair(point: str) -> list[str]:
    values = point.split(",")
    if len(values) != 2:
        raise ValueError(point)
    return values


def _whole(element: Element, name: str, where: str, least: int) -> int:
    text = element.get(name) or ""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least:
        raise DataError(f"{where}: {name} is {text[:40]!r}; it must be a whole number: export the task again")
    return int(text)


def _frames(folder: str) -> tuple[dict[int, int], dict[str, Any]]:
    """Frame number of the task -> place in the record; and where the frames are."""
    images = _image_folder(folder)
    if images is not None:
        names = files_in(images, IMAGE_EXTENSIONS)
        paths = tuple(os.path.join(images, name) for name in names)
        told = [last_number(stem(name)) for name in names]
        numbered = None not in told and len(set(told)) == len(told)
        numbers = {number if numbered else i: i for i, number in enumerate(told)}
        source = {"paths": paths, "size": image_size(paths[0], "frame"), "where": images}
        return {int(number or 0): place for number, place in numbers.items()}, source
    videos = files_in(folder, VIDEO_EXTENSIONS)
    if len(videos) != 1:
        raise DataError(
            f"{folder}: has {XML}, but {'several videos' if videos else 'neither images/ nor a video'} "
            "beside it; export the task with its images, or put the one video of the task there"
        )
    video = os.path.join(folder, videos[0])
    probe = probe_video(video)
    source = {"video": video, "size": (probe.height, probe.width), "where": video}
    return {frame: frame for frame in range(probe.num_frames)}, source


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


def _recognise(path: str) -> Found | None:
    if os.path.basename(path) == XML:
        path = os.path.dirname(path)
    candidates = [path, *(os.path.join(path, name) for name in subfolders(path))]
    folders = [each for each in candidates if _is_cvat(os.path.join(each, XML))]
    if not folders:
        return None
    why = (
        f"{some(os.path.relpath(os.path.join(each, XML), path) for each in folders)} is an XML of annotations"
    )
    return Found("CVAT for video", why, lambda options: load_cvat(folders, options))


def _is_cvat(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return b"<annotations" in file.read(_START_BYTES)


LAYOUT = Layout(f"CVAT for video 1.1: {XML} beside images/ or the video, or a folder a task", _recognise)
