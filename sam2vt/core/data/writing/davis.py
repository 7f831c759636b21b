"""DAVIS trees: JPEGImages/<video>/ beside palette PNGs, one per frame, or one per object and frame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from sam2vt.core.data.formats.tree import FRAMES, MASKS
from sam2vt.core.data.formats.youtube_vos import META
from sam2vt.core.data.masks.labels import VOID
from sam2vt.core.data.masks.loading import known_objects, load_masks, load_void
from sam2vt.core.data.writing.conversion import (
    ConvertOptions,
    Losses,
    all_object_ids,
    frame_where,
    masks_all_known,
)
from sam2vt.core.data.writing.folder import frame_stems, write_file, write_frames
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_PARTS = ".names"  # what meta.json is put together from
_LARGEST_ID = 65535  # of a 16 bit PNG, which has no void


def write_labels(
    record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses
) -> None:
    """Write one label image per frame. Raises DataError naming frame and objects where two overlap."""
    stems = frame_stems(record)
    write_frames(record, folder / FRAMES / name, stems, options.encoding, options.link)
    _write_names(record, name, folder)
    for frame in record.annotated_frames:
        labels = _labels(record, frame, losses)
        write_file(folder / MASKS / name / f"{stems[frame]}.png", _png(labels))


def write_objects(
    record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses
) -> None:
    """Write one folder per object, a file per frame on which it is known, empty where it is absent."""
    stems = frame_stems(record)
    write_frames(record, folder / FRAMES / name, stems, options.encoding, options.link)
    _write_names(record, name, folder)
    objects = all_object_ids(record)
    if min(objects) < 0:
        raise DataError(
            f"{record.source}: video {record.video_id} has object {min(objects)}; folders of objects are "
            "named by numbers from 0 on: give the object another number, or use coco"
        )
    for frame in record.annotated_frames:
        masks, known, void = load_masks(record, frame), known_objects(record, frame), load_void(record, frame)
        # A missing file says unknown, an empty one absent.
        written = [key for key in objects if known is None or key in known]
        if not written:
            losses.tell(
                frame_where(record, frame),
                "it is annotated, but nothing is known of any object",
                "an annotated frame became one without annotation",
                "remove its annotation",
            )
        for key in written:
            labels = np.zeros((record.height, record.width), dtype=np.uint8)
            if void is not None:
                labels[void] = VOID
            if key in masks:
                labels[masks[key]] = 1
            write_file(folder / MASKS / name / str(key) / f"{stems[frame]}.png", _png(labels))


def _write_names(record: VideoRecord, name: str, folder: Path) -> None:
    """Write a video's part of meta.json, which lists all its objects, where they have names."""
    names = record.object_names and {
        key: str(record.object_names.get(key, key)) for key in all_object_ids(record)
    }
    # The ids that meta.json may have.
    if names and 0 < min(names) <= max(names) <= _LARGEST_ID:
        objects = {str(key): {"category": each} for key, each in names.items()}
        write_file(folder / _PARTS / f"{name}.json", json.dumps({"objects": objects}).encode())


def join_names(names: Sequence[str], folder: Path) -> None:
    """Write meta.json as YouTube-VOS has it; without one where a video has objects without names."""
    parts = {name: folder / _PARTS / f"{name}.json" for name in names}
    if all(path.exists() for path in parts.values()):
        videos = {name: json.loads(path.read_bytes()) for name, path in parts.items()}
        write_file(folder / META, json.dumps({"videos": videos}, indent=1).encode())
    shutil.rmtree(folder / _PARTS, ignore_errors=True)


def _labels(record: VideoRecord, frame: int, losses: Losses) -> np.ndarray:
    """Return object ids, and 255 where the frame is void: uint8 [height, width], or uint16 for large ids."""
    masks, void = masks_all_known(record, frame, losses), load_void(record, frame)
    where = frame_where(record, frame)
    # 255 is void in 8 bits, so ids from 255 on need 16.
    is_deep = bool(masks) and max(masks) >= VOID
    wrong = [key for key in masks if not 0 < key <= _LARGEST_ID]
    if wrong or (is_deep and void is not None):
        raise DataError(
            f"{where}: object {wrong[0] if wrong else max(masks)} cannot be a pixel value"
            f"{'' if wrong else ' beside void'}: allowed are 1 to 254, and up to {_LARGEST_ID} where nothing "
            "is void; use davis-objects or coco, or give the object another number"
        )
    labels = np.zeros((record.height, record.width), dtype=np.uint16 if is_deep else np.uint8)
    if void is not None:
        labels[void] = VOID
    for key, mask in masks.items():
        _check_overlap(labels, mask, key, where, losses)
        labels[mask] = key
    return labels


def _check_overlap(labels: np.ndarray, mask: np.ndarray, key: int, where: str, losses: Losses) -> None:
    under = labels[mask]
    others = sorted(set(np.unique(under).tolist()) - {0, *([VOID] if labels.dtype == np.uint8 else [])})
    if others:
        losses.tell(
            where,
            f"object {key} overlaps object {', '.join(map(str, others))}",
            "objects overlapped, of which the one of the higher number was written on top",
            "use davis-objects, sav or coco",
        )


def _png(labels: np.ndarray) -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(_palette())
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _palette() -> bytes:
    """Return colours that tell neighbouring numbers apart, as in DAVIS and PASCAL VOC.

    A number's lowest three bits are the highest of red, green and blue, the next three the second highest.
    """
    values = np.arange(256)
    channels = [sum(((values >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8).tobytes()
