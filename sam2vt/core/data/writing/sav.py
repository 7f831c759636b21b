"""SA-V: <video>.mp4 beside <video>_manual.json with a masklet per object, every n-th frame annotated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sam2vt.core.data.formats.sav import annotation_stride
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.frames.video import probe_video, video_source
from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.data.writing.conversion import ConvertOptions, Losses, all_object_ids, masks_without_void
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.data.writing.folder import link_or_copy, write_file
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_ENDING = ".mp4"
# COCO's bounds of small and medium, in pixels.
_SIZES = ((32**2, "small"), (96**2, "medium"))


def write_sav(record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses) -> None:
    """Raise DataError where the annotated frames are not every n-th one."""
    _check_stride(record)
    content = _content(record, name, options.fps, losses)
    path = folder / f"{name}{_ENDING}"
    _write_mp4(record, path, options)
    # Encoders may drop or add frames at some rates; masks would not fit.
    found = probe_video(path)
    if (found.num_frames, found.height, found.width) != (record.num_frames, record.height, record.width):
        raise DataError(
            f"{path}: came out with {found.num_frames} frames of {found.width}x{found.height}, not "
            f"{record.num_frames} of {record.width}x{record.height}; convert {record.source} to coco instead"
        )
    write_file(folder / f"{name}_manual.json", json.dumps(content).encode())


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


def _content(record: VideoRecord, name: str, fps: float, losses: Losses) -> dict[str, Any]:
    """Return the fields of SA-V's own files, the objects' names beside them."""
    objects = all_object_ids(record)
    if min(objects) < 1:
        raise DataError(
            f"{record.source}: video {record.video_id} has object {min(objects)}; masklets are objects from "
            "1 on: give the object another number, or use coco"
        )
    size = (record.height, record.width)
    # SA-V lists an object on every frame, with an empty RLE where it is absent.
    empty = _rle(np.zeros(size, dtype=bool))
    masklet, areas = [], np.zeros((len(record.annotations), len(objects)), dtype=np.int64)
    for place, frame in enumerate(record.annotated_frames):
        masks = masks_without_void(record, frame, losses)
        masklet.append([_rle(masks[key]) if key in masks else empty for key in objects])
        areas[place] = [int(np.count_nonzero(masks[key])) if key in masks else 0 for key in objects]
    number, names = len(objects), record.object_names
    # Over the frames on which an object is visible.
    sizes = [float(column[column > 0].mean()) if column.any() else 0.0 for column in areas.T]
    return {
        "video_id": name,
        "video_duration": record.num_frames / fps,
        "video_frame_count": float(record.num_frames),
        "video_height": float(record.height),
        "video_width": float(record.width),
        "video_resolution": float(record.height * record.width),
        "video_environment": "",
        "video_split": "",
        "masklet": masklet,
        "masklet_id": [key - 1 for key in objects],
        "masklet_size_rel": [each / (record.height * record.width) for each in sizes],
        "masklet_size_abs": sizes,
        "masklet_size_bucket": [_bucket(each) for each in sizes],
        "masklet_visibility_changes": [_changes(column > 0) for column in areas.T],
        "masklet_first_appeared_frame": [float((column > 0).argmax()) for column in areas.T],
        "masklet_frame_count": [len(masklet)] * number,
        "masklet_edited_frame_count": [len(masklet)] * number,
        "masklet_type": ["manual"] * number,
        "masklet_stability_score": [None] * number,
        "masklet_num": number,
        **({"masklet_name": [names.get(key) for key in objects]} if names else {}),
    }


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": encode_mask(mask)["counts"].decode()}


def _bucket(area: float) -> str:
    return next((name for bound, name in _SIZES if area < bound), "large")


def _changes(visible: np.ndarray) -> int:
    """Return how often it leaves or comes back; its first appearance is none."""
    return int(np.abs(np.diff(visible[visible.argmax() :].astype(np.int8))).sum())
