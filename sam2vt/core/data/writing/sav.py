"""Write SA-V: <video>.mp4 and <video>_manual.json with a masklet per object, every n-th frame annotated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats.sav import ENDINGS, annotation_stride
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.frames.video import probe_video, video_source
from sam2vt.core.data.masks.rle import encode_mask, json_rle
from sam2vt.core.data.writing.conversion import ConvertOptions, Losses, all_object_ids, masks_without_void
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.data.writing.folder import link_or_copy
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_ENDING = ".mp4"
# COCO's bounds of small and medium, in pixels.
_SIZES = ((32**2, "small"), (96**2, "medium"))


def write_sav(record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses) -> None:
    """Raise DataError if the annotated frames are not every n-th one."""
    _check_stride(record)
    objects = all_object_ids(record)
    check_masklet_ids(objects, f"{record.source}: video {record.video_id}", "use coco")
    size = (record.height, record.width)
    masklets = MaskletVideo(name, record.num_frames, size, options.fps, objects, record.names_of(objects))
    # First: masks are what may be refused, and the video may take long.
    write_masklets(folder / f"{name}{ENDINGS[0]}", masklets, _masks_of(record, losses))
    path = folder / f"{name}{_ENDING}"
    _write_mp4(record, path, options)
    # Encoders may drop or add frames at some rates; masks would not fit.
    found = probe_video(path)
    if (found.num_frames, found.height, found.width) != (record.num_frames, record.height, record.width):
        raise DataError(
            f"{path}: came out with {found.num_frames} frames of {found.width}x{found.height}, not "
            f"{record.num_frames} of {record.width}x{record.height}; convert {record.source} to coco instead"
        )


def _write_mp4(record: VideoRecord, path: Path, options: ConvertOptions) -> None:
    """Write the video file; an mp4 stays as it is."""
    source = video_source(record)
    if isinstance(source, str) and source.lower().endswith(_ENDING):
        return link_or_copy(source, path, options.link)
    with write_whole(path, keep_suffix=True) as written:
        if source is not None and not isinstance(source, str) and source.ending == _ENDING:
            with source.open() as file, written.open("wb") as copy:
                while piece := file.read(1 << 20):
                    copy.write(piece)
        else:
            write_video(written, iterate_frames(record), options.fps, exact_size=True)


def _check_stride(record: VideoRecord) -> None:
    frames = record.annotated_frames
    stride = annotation_stride(record.num_frames, len(frames))
    if stride is None or frames != list(range(0, record.num_frames, stride)):
        shown = ", ".join(map(str, frames[:8])) + (", ..." if len(frames) > 8 else "")
        raise DataError(
            f"{record.source}: video {record.video_id}: its annotated frames are {shown} of "
            f"{record.num_frames}; SA-V has every n-th frame annotated from the first on, and n follows from "
            "how many there are: use coco or davis"
        )


class MaskletVideo(NamedTuple):
    """The video of masklets: M objects, whose ids are at least 1."""

    name: str
    num_frames: int
    size: tuple[int, int]  # (height, width) in pixels
    fps: float
    objects: Sequence[int]  # [M]
    names: Mapping[int, Any]


def _masks_of(record: VideoRecord, losses: Losses) -> Iterator[dict[int, dict[str, Any]]]:
    """Yield the RLEs of each annotated frame by object."""
    for frame in record.annotated_frames:
        yield {key: encode_mask(mask) for key, mask in masks_without_void(record, frame, losses).items()}


def check_masklet_ids(objects: Sequence[int], where: str, remedy: str) -> None:
    """Raise DataError for an object that cannot be a masklet."""
    if min(objects, default=1) < 1:
        raise DataError(
            f"{where} has object {min(objects)}; masklets are objects from 1 on: give the object another "
            f"number, or {remedy}"
        )


def write_masklets(path: Path, video: MaskletVideo, frames: Iterable[Mapping[int, dict[str, Any]]]) -> None:
    """Write the fields of SA-V's own files and the objects' names, with one frame in memory at a time.

    `frames`: the RLEs of the objects of each annotated frame, encoded or checked here.
    """
    # SA-V lists an object on every frame, with an empty RLE where it is absent.
    empty = encode_mask(np.zeros(video.size, dtype=bool))
    areas = []
    with write_whole(path) as written, written.open("w") as file:
        # First, as all other fields follow from it: a long video's masks need not be in memory.
        file.write('{"masklet": [')
        for place, masks in enumerate(frames):
            rles = [masks.get(key, empty) for key in video.objects]
            # One by one: pycocotools counts the masks of a list in 8 bits.
            areas.append([int(coco_mask.area(each)) for each in rles])
            file.write((", " if place else "") + json.dumps([json_rle(each) for each in rles]))
        file.write("], " + json.dumps(_fields(video, np.array(areas, dtype=np.int64)))[1:])


def _fields(video: MaskletVideo, areas: np.ndarray) -> dict[str, Any]:
    """Return all fields but the masks; `areas` [annotated frames, M] in pixels."""
    number, (height, width) = len(video.objects), video.size
    # Over the frames on which an object is visible.
    sizes = [float(column[column > 0].mean()) if column.any() else 0.0 for column in areas.T]
    return {
        "video_id": video.name,
        "video_duration": video.num_frames / video.fps,
        "video_frame_count": float(video.num_frames),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "video_environment": "",
        "video_split": "",
        "masklet_id": [key - 1 for key in video.objects],
        "masklet_size_rel": [each / (height * width) for each in sizes],
        "masklet_size_abs": sizes,
        "masklet_size_bucket": [_bucket(each) for each in sizes],
        "masklet_visibility_changes": [_changes(column > 0) for column in areas.T],
        "masklet_first_appeared_frame": [float((column > 0).argmax()) for column in areas.T],
        "masklet_frame_count": [len(areas)] * number,
        "masklet_edited_frame_count": [len(areas)] * number,
        "masklet_type": ["manual"] * number,
        "masklet_stability_score": [None] * number,
        "masklet_num": number,
        **({"masklet_name": [video.names.get(key) for key in video.objects]} if video.names else {}),
    }


def _bucket(area: float) -> str:
    return next((name for bound, name in _SIZES if area < bound), "large")


def _changes(visible: np.ndarray) -> int:
    """Return how often it leaves or comes back; its first appearance is none."""
    return int(np.abs(np.diff(visible[visible.argmax() :].astype(np.int8))).sum())
