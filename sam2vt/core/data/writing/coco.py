"""Write a COCO video JSON: images with video and order, an RLE for each object and annotated frame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from sam2vt.core.data.formats.coco_identity import NO_NAME
from sam2vt.core.data.masks.loading import void_hint
from sam2vt.core.data.masks.rle import encode_mask, json_rle
from sam2vt.core.data.writing.conversion import ConvertOptions, Losses, masks_without_void
from sam2vt.core.data.writing.folder import frame_stems, write_file, write_frames
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

FRAMES, JSON = "frames", "annotations.json"
_PARTS = ".parts"  # what annotations.json is put together from


def write_part(record: VideoRecord, name: str, folder: Path, options: ConvertOptions, losses: Losses) -> None:
    """Write the frames and entries of a video; ids are assigned when all videos are written."""
    files = write_frames(record, folder / FRAMES / name, frame_stems(record), options.encoding, options.link)
    images = [
        {
            "file_name": f"{FRAMES}/{name}/{file}",
            "height": record.height,
            "width": record.width,
            "video_id": record.video_id,
            "order_in_video": index,
            "is_annotated": index in record.annotations,
        }
        for index, file in enumerate(files)
    ]
    annotations = [
        {
            "image": frame,
            "category": str(record.names_of([key]).get(key, NO_NAME)),
            "track_id": key,
            **segmentation_fields(encode_mask(mask)),
        }
        for frame in record.annotated_frames
        for key, mask in masks_without_void(record, frame, losses).items()
    ]
    # A video without annotations would be read back as not annotated at all.
    if not annotations:
        raise DataError(
            f"{record.source}: video {record.video_id}: no object is visible on any of its "
            f"{len(record.annotations)} annotated frames; leave the video out{void_hint(record)}"
        )
    write_file(folder / _PARTS / f"{name}.json", json.dumps([images, annotations]).encode())


def join_parts(names: Sequence[str], folder: Path) -> None:
    """Write annotations.json from the parts of all videos, with one part in memory at a time."""
    if not (folder / JSON).exists():  # else an earlier call was stopped after it
        _write_json(names, folder)
    shutil.rmtree(folder / _PARTS, ignore_errors=True)


def _write_json(names: Sequence[str], folder: Path) -> None:
    # Two passes over the parts: ids of categories come first in the file.
    numbers = number_categories(each["category"] for name in names for each in _part(folder, name)[1])
    write_coco(folder / JSON, numbers, _images(names, folder), _annotations(names, folder, numbers))


def number_categories(names: Iterable[str]) -> dict[str, int]:
    """Return name -> id of each category, from 1 on, in alphabetical order."""
    return {name: number for number, name in enumerate(sorted(set(names)), start=1)}


def write_coco(
    path: Path,
    categories: dict[str, int],
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> None:
    """Write a COCO JSON with one entry in memory at a time; `categories` are ids by name."""
    with write_whole(path) as written, written.open("w") as file:
        file.write('{"categories": ')
        json.dump([{"id": number, "name": name} for name, number in categories.items()], file)
        for key, entries in (("images", images), ("annotations", annotations)):
            file.write(f',\n"{key}": [')
            for place, entry in enumerate(entries):
                file.write((",\n" if place else "\n") + json.dumps(entry))
            file.write("\n]")
        file.write("}\n")


def _images(names: Iterable[str], folder: Path) -> Iterator[dict[str, Any]]:
    images = (image for name in names for image in _part(folder, name)[0])
    for number, image in enumerate(images, start=1):
        yield {"id": number, **image}


def _annotations(names: Iterable[str], folder: Path, categories: dict[str, int]) -> Iterator[dict[str, Any]]:
    number = first_image = 0
    for name in names:
        images, annotations = _part(folder, name)
        for entry in annotations:
            number += 1
            image, category = entry.pop("image"), entry.pop("category")
            ids = {"id": number, "image_id": first_image + image + 1, "category_id": categories[category]}
            yield {**ids, "video_id": images[0]["video_id"], **entry}
        first_image += len(images)


def _part(folder: Path, name: str) -> list[list[dict[str, Any]]]:
    return json.loads((folder / _PARTS / f"{name}.json").read_bytes())


def segmentation_fields(rle: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an annotation that depend on its mask. The RLE must be encoded or checked here."""
    return {
        "segmentation": json_rle(rle),
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "iscrowd": 0,
    }
