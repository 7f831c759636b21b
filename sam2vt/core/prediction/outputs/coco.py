"""Write one COCO video JSON of all videos: an RLE per object and frame, with track, category and scores."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sam2vt.core.data.formats.coco_identity import NO_NAME
from sam2vt.core.data.writing.coco import JSON, number_categories, segmentation_fields, write_coco
from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.output import Output


def image_root(videos: Sequence[TrackedVideo]) -> str | None:
    """Return the folder that the JSON's frame names are relative to, for --image-root.

    None if no video has its frames in files.
    """
    folders = set[str]()
    for video in videos:
        if video.record is not None and video.record.frame_paths is not None:
            folders |= {os.path.dirname(os.path.dirname(each)) for each in video.record.frame_paths}
        elif video.record is not None and video.record.video_path is not None:
            folders.add(os.path.dirname(video.record.video_path))
    return os.path.commonpath(folders) if folders else None


def _join(videos: Sequence[TrackedVideo], folder: Path) -> None:
    categories = number_categories(_category(video, key) for video in videos for key in video.object_ids)
    write_coco(folder / JSON, categories, _images(videos), _annotations(videos, categories))


def _category(video: TrackedVideo, key: int) -> str:
    return video.names.get(key) or NO_NAME


def _images(videos: Sequence[TrackedVideo]) -> Iterator[dict[str, Any]]:
    root, number = image_root(videos), 0
    for video in videos:
        for index, file in enumerate(_files(video, root)):
            number += 1
            yield {
                "id": number,
                "file_name": file,
                "height": video.height,
                "width": video.width,
                "video_id": video.video_id,
                "order_in_video": index,
                "is_annotated": True,
            }


def _files(video: TrackedVideo, root: str | None) -> list[str]:
    """Return names as our reader finds them: of frames below the root, or in a folder named as the file.

    Frames that are gone are named as if they were in a folder of the video's name.
    """
    record = video.record
    if record is not None and record.frame_paths is not None:
        paths = record.frame_paths[: video.num_frames]
        return [os.path.relpath(each, root).replace(os.sep, "/") for each in paths]
    above = video.name
    if record is not None and record.video_path is not None:
        above = os.path.relpath(os.path.splitext(record.video_path)[0], root).replace(os.sep, "/")
    return [f"{above}/{stem}.jpg" for stem in video.stems]


def _annotations(videos: Sequence[TrackedVideo], categories: dict[str, int]) -> Iterator[dict[str, Any]]:
    number = first_image = 0
    for video in videos:
        for frame, entries in video.entries():
            # An absent object has no annotation: pycocotools and most readers refuse empty masks.
            for each in (entry for entry in entries if entry.area):
                number += 1
                yield {
                    "id": number,
                    "image_id": first_image + frame + 1,
                    "category_id": categories[_category(video, each.object_id)],
                    "video_id": video.video_id,
                    "track_id": each.object_id,
                    **segmentation_fields(each.rle),
                    "score": _number(each.iou),
                    "presence": _number(each.presence),
                }
        first_image += video.num_frames


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


COCO = Output(
    f"{JSON}, a COCO video JSON of all videos: RLE, track ids, names, scores; overlaps stay", join=_join
)
