"""Write DAVIS trees: JPEGImages/<video>/ and palette PNGs, one per frame, or one per object and frame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

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
LARGEST_ID = 65535  # of a 16 bit PNG, which has no void


def write_labels(
    record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses
) -> None:
    """Write one label image per frame. Raises DataError naming frame and objects if two overlap."""
    stems = frame_stems(record)
    write_frames(record, folder / FRAMES / name, stems, options.encoding, options.link)
    _write_names(record, name, folder)
    for frame in record.annotated_frames:
        labels = _labels(record, frame, losses)
        write_file(folder / MASKS / name / f"{stems[frame]}.png", encode_labels(labels))


def write_objects(
    record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses
) -> None:
    """Write one folder per object, a file per frame on which it is known, empty if it is absent."""
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
            shown = {1: masks[key]} if key in masks else {}
            labels = paint_labels((record.height, record.width), shown, void=void)
            write_file(folder / MASKS / name / str(key) / f"{stems[frame]}.png", encode_labels(labels))


def _write_names(record: VideoRecord, name: str, folder: Path) -> None:
    """Write a video's part of meta.json, which lists all its objects, where they have names."""
    if not record.object_names and not record.classes:
        return
    objects = all_object_ids(record)
    if entry := meta_entry(objects, record.names_of(objects)):
        write_file(folder / _PARTS / f"{name}.json", json.dumps(entry).encode())


def meta_entry(objects: Collection[int], names: Mapping[int, Any]) -> dict[str, Any] | None:
    """Return a video's entry of meta.json; None if no object has a name, or an id is not allowed there."""
    if not names or not objects or not 0 < min(objects) <= max(objects) <= LARGEST_ID:
        return None
    return {"objects": {str(key): {"category": str(names.get(key, key))} for key in objects}}


def join_names(names: Sequence[str], folder: Path) -> None:
    """Write meta.json as in YouTube-VOS, unless a video has objects without names."""
    parts = {name: folder / _PARTS / f"{name}.json" for name in names}
    if all(path.exists() for path in parts.values()):
        write_meta(folder, {name: json.loads(path.read_bytes()) for name, path in parts.items()})
    shutil.rmtree(folder / _PARTS, ignore_errors=True)


def write_meta(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write the meta.json of these videos: name -> its entry."""
    write_file(folder / META, json.dumps({"videos": entries}, indent=1).encode())


def _labels(record: VideoRecord, frame: int, losses: Losses) -> np.ndarray:
    """Return object ids, and 255 where the frame is void: uint8 [height, width], or uint16 for large ids."""
    masks, void = masks_all_known(record, frame, losses), load_void(record, frame)
    where = frame_where(record, frame)
    # 255 is void in 8 bits, so ids from 255 on need 16.
    is_deep = bool(masks) and max(masks) >= VOID
    wrong = [key for key in masks if not 0 < key <= LARGEST_ID]
    if wrong or (is_deep and void is not None):
        raise DataError(
            f"{where}: object {wrong[0] if wrong else max(masks)} cannot be a pixel value"
            f"{'' if wrong else ' beside void'}: allowed are 1 to 254, and up to {LARGEST_ID} where nothing "
            "is void; use davis-objects or coco, or give the object another number"
        )

    def tell(overlap: str) -> None:
        losses.tell(
            where,
            overlap,
            "objects overlapped, of which the one of the higher number was written on top",
            "use davis-objects, sav or coco",
        )

    return paint_labels((record.height, record.width), masks, is_deep, void, tell)


def paint_labels(
    size: tuple[int, int],
    masks: Mapping[int, np.ndarray],
    is_deep: bool = False,
    void: np.ndarray | None = None,
    tell: Callable[[str], None] = lambda overlap: None,
) -> np.ndarray:
    """Return object ids, and 255 where the frame is void, uint8 [height, width]; uint16 where `is_deep`.

    Masks of later objects are on top; `tell` gets a text for each mask that overlaps earlier ones.
    """
    labels = np.zeros(size, dtype=np.uint16 if is_deep else np.uint8)
    if void is not None:
        labels[void] = VOID
    for key, mask in masks.items():
        others = set(np.unique(labels[mask]).tolist()) - {0, *(() if is_deep else (VOID,))}
        if others:
            tell(f"object {key} overlaps object {', '.join(map(str, sorted(others)))}")
        labels[mask] = key
    return labels


def encode_labels(labels: np.ndarray) -> bytes:
    """Return the PNG of a label image: with DAVIS's palette for uint8, as 16 bit gray for uint16."""
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
