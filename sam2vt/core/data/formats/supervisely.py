"""Read Supervisely video projects: <dataset>/video/<name>.mp4 with <dataset>/ann/<name>.mp4.json.

Each object of the file is an object, on the frames that have a figure of it. Frames without any figure are
not annotated. Figures are bitmaps and polygons; boxes are not masks.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import VIDEO_EXTENSIONS, and_inner, by_name, files_in, some, stem
from sam2vt.core.data.formats.records import check_fits, file_record
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.json_files import field, load_json
from sam2vt.core.data.masks.figures import FIGURE
from sam2vt.core.types import Figures, FrameAnnotation, VideoRecord
from sam2vt.errors import DataError, located

_VIDEOS, _ANNOTATIONS = "video", "ann"


def load_supervisely(datasets: list[str], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every video. Raises DataError naming the object, frame or file."""
    pairs = [pair for dataset in datasets for pair in _pairs(dataset, options)]
    several = len(datasets) > 1
    return options.records(
        lambda pair: _record(*pair, several),
        pairs,
        lambda pair: {"video": _video_id(pair[0], several), "file": pair[1]},
    )


def _video_id(video: str, several: bool) -> str:
    """Return the file's name; with several datasets the dataset's before it."""
    name = stem(os.path.basename(video))
    return f"{os.path.basename(os.path.dirname(os.path.dirname(video)))}/{name}" if several else name


def _pairs(dataset: str, options: ReadOptions) -> list[tuple[str, str]]:
    """Return each video with its annotation."""
    folder = os.path.join(dataset, _ANNOTATIONS)
    files = {stem(name): path for name, path in by_name(folder, files_in(folder, (".json",))).items()}
    folder = os.path.join(dataset, _VIDEOS)
    videos = by_name(folder, files_in(folder, VIDEO_EXTENSIONS))
    for lonely, what in (
        ([name for name in videos if name not in files], f"no {_ANNOTATIONS}/<video>.json"),
        ([name for name in files if name not in videos], f"no video in {_VIDEOS}/"),
    ):
        remedy = "export the project with both, or remove what is alone"
        options.lonely(lonely, dataset, f"videos have {what}", remedy)
    return [(path, files[name]) for name, path in videos.items() if name in files]


def _record(video: str, path: str, several: bool) -> VideoRecord:
    data, probe = load_json(path), probe_video(video)
    size = field(data, "size", dict, path)
    height, width = (field(size, name, int, f"{path}: size") for name in ("height", "width"))
    count = field(data, "framesCount", int, path)
    check_fits(probe, (count, height, width), path)
    numbers, names = _objects(data, path)
    annotations: dict[int, FrameAnnotation] = {}
    for place, frame in enumerate(field(data, "frames", list, path)):
        index = field(frame, "index", int, f"{path}: frames[{place}]")
        if not 0 <= index < count or index in annotations:
            what = "is there twice" if index in annotations else f"is not one of {count} frames"
            raise DataError(f"{path}: frames[{place}]: index {index} {what}; export the annotation again")
        with located(frame=index):
            annotations[index] = Figures(_figures(frame, numbers, f"{path}: frame {index}"))
    if not annotations:
        raise DataError(f"{path}: no frame has a figure; annotate an object or leave the video out")
    video_id, annotations = _video_id(video, several), dict(sorted(annotations.items()))
    return file_record(video_id, probe, annotations, path, object_ids=tuple(names), object_names=names)


def _objects(data: Any, path: str) -> tuple[dict[str, int], dict[int, str]]:
    """Return key -> object id, and object id -> class."""
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    # Keys are random; places are the same in every export.
    for number, each in enumerate(field(data, "objects", list, path), start=1):
        where = f"{path}: objects[{number - 1}]"
        key = field(each, "key", str, where)
        if key in numbers:
            raise DataError(f"{where}: another object has the key {key}; export the annotation again")
        numbers[key], names[number] = number, field(each, "classTitle", str, where)
    return numbers, names


def _figures(frame: Any, numbers: dict[str, int], where: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for place, figure in enumerate(field(frame, "figures", list, where)):
        at = f"{where}, figure {place}"
        key = field(figure, "objectKey", str, at)
        if key not in numbers:
            raise DataError(f"{at}: its objectKey {key} is none of the file's objects; export it again")
        kind = field(figure, "geometryType", str, at)
        if kind not in _GEOMETRIES:
            raise DataError(
                f"{at} of object {numbers[key]} is a {kind}; allowed are bitmap and polygon: draw a mask in "
                "Supervisely, or remove the figure",
                object=numbers[key],
            )
        with located(object=numbers[key]):
            geometry = _GEOMETRIES[kind](field(figure, "geometry", dict, at), at)
        found.setdefault(numbers[key], []).append(geometry)
    return found


def _bitmap(geometry: Any, where: str) -> dict[str, Any]:
    bitmap = field(geometry, "bitmap", dict, where)
    origin = field(bitmap, "origin", list, where)
    if len(origin) != 2 or any(type(each) is not int for each in origin):
        raise DataError(f"{where}: origin is {str(origin)[:40]}; it must be two whole numbers, x and y")
    return {FIGURE: "bitmap", "data": field(bitmap, "data", str, where), "origin": origin}


def _polygon(geometry: Any, where: str) -> dict[str, Any]:
    points = field(geometry, "points", dict, where)
    exterior = field(points, "exterior", list, where)
    interior = field(points, "interior", list, where) if "interior" in points else []
    for ring in (exterior, *interior):
        if not isinstance(ring, list) or any(not isinstance(each, list) or len(each) != 2 for each in ring):
            raise DataError(f"{where}: points are {str(ring)[:40]}; they must be pairs [x, y]: export again")
    return {FIGURE: "polygon", "exterior": exterior, "interior": interior}


_GEOMETRIES = {"bitmap": _bitmap, "polygon": _polygon}


def _recognise(path: str) -> Found | None:
    with_videos = (each for each in and_inner(path) if os.path.isdir(os.path.join(each, _VIDEOS)))
    datasets = [each for each in with_videos if files_in(os.path.join(each, _ANNOTATIONS), (".json",))]
    if not datasets:
        return None
    why = f"{some(os.path.basename(each) for each in datasets)} has {_VIDEOS}/ and {_ANNOTATIONS}/*.json"
    return Found("a Supervisely video project", why, partial(load_supervisely, datasets))


LAYOUT = Layout("Supervisely: <dataset>/video/<name>.mp4 with <dataset>/ann/<name>.mp4.json", _recognise)
