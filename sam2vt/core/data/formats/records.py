"""A video and its masks, once found, as a record."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any

from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, alike, files_in, stem
from sam2vt.core.data.formats.mask_folders import (
    check_first_mask,
    match_frame_names,
    match_frame_numbers,
    read_mask_folder,
)
from sam2vt.core.data.frames.images import image_size
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.masks.codings import class_colours
from sam2vt.core.types import FrameAnnotation, LabelImage, VideoRecord
from sam2vt.errors import DataError, located


def record_from_frames(video_id: str, frame_folder: str, mask_folder: str, look: bool = True) -> VideoRecord:
    """A folder of images, one a frame in natural order, and a folder of masks.

    With `look` the first mask has to be of the frames' size; whoever reads all masks finds that out later.
    """
    names = files_in(frame_folder, IMAGE_EXTENSIONS)
    if not names:
        raise DataError(
            f"{frame_folder}: no frame is in it; allowed are {', '.join(IMAGE_EXTENSIONS)} files, one a "
            "frame",
            file=frame_folder,
        )
    stems = [alike(stem(name)) for name in names]
    if len(set(stems)) < len(stems):
        twice = Counter(stems).most_common(1)[0][0]
        raise DataError(
            f"{frame_folder}: two frames are named {twice}; remove one of the files", file=frame_folder
        )
    paths = tuple(os.path.join(frame_folder, name) for name in names)
    masks = read_mask_folder(mask_folder)
    annotations = match_frame_names(masks, stems)
    with located(frame=0):
        height, width = image_size(paths[0], "frame")
    if look:
        check_first_mask(annotations, (height, width), paths[0])
    return VideoRecord(
        video_id=video_id,
        num_frames=len(paths),
        height=height,
        width=width,
        annotations=annotations,
        frame_paths=paths,
        object_ids=masks.object_ids,
        source=frame_folder,
        object_names=masks.object_names,
    )


def record_from_video(video_id: str, video_path: str, mask_folder: str, look: bool = True) -> VideoRecord:
    """A video file and a folder of masks; `look` as for frames."""
    masks = read_mask_folder(mask_folder)
    probe = probe_video(video_path)
    annotations = match_frame_numbers(masks, probe.num_frames, video_path)
    if look:
        check_first_mask(annotations, (probe.height, probe.width), video_path)
    return VideoRecord(
        video_id=video_id,
        num_frames=probe.num_frames,
        height=probe.height,
        width=probe.width,
        annotations=annotations,
        video_path=video_path,
        object_ids=masks.object_ids,
        source=video_path,
        object_names=masks.object_names,
    )


def with_coding(record: VideoRecord, coding: str, **fields: Any) -> VideoRecord:
    """Return the record with label images of another coding, and with the fields that this coding needs.

    Raises DataError where a frame has an image per object.
    """
    coded: dict[int, FrameAnnotation] = {}
    for index, annotation in record.annotations.items():
        if annotation.object_ids() is not None:
            raise DataError(
                f"{record.source}: video {record.video_id} has a folder of masks an object; with masks of "
                f"the kind {coding} it must have one image a frame: put the masks of a frame into one image"
            )
        (path,) = annotation.files()
        coded[index] = LabelImage(path, coding)
    return replace(record, annotations=coded, **fields)


def with_colours(record: VideoRecord, colours: dict[str, tuple[int, int, int]] | None) -> VideoRecord:
    """A record whose masks are colours of classes, an object a class; as it is without a table."""
    if not colours:
        return record
    names = class_colours(colours)
    ids = tuple(names)
    return with_coding(record, "colours", colours=dict(colours), object_names=names, object_ids=ids)
