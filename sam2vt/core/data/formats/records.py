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


def read_video(video_id: str, source: str, mask_folder: str, look: bool = True) -> VideoRecord:
    """Return the record of a folder of frames in natural order, or a video file, and a folder of masks.

    With `look` the first mask has to be of the frames' size; whoever reads all masks finds that out later.
    Raises DataError naming the folder or file.
    """
    paths, path = (None, source) if os.path.isfile(source) else (_frame_paths(source), None)
    # Before the video is probed, which may decode all of it.
    masks = read_mask_folder(mask_folder)
    if paths is None:
        probe = probe_video(source)
        num_frames, size = probe.num_frames, (probe.height, probe.width)
        annotations = match_frame_numbers(masks, num_frames, source)
    else:
        num_frames = len(paths)
        annotations = match_frame_names(masks, [stem(os.path.basename(each)) for each in paths])
        with located(frame=0):
            size = image_size(paths[0], "frame")
    if look:
        check_first_mask(annotations, size, paths[0] if paths else source)
    return VideoRecord(
        video_id,
        num_frames,
        *size,
        annotations,
        frame_paths=paths,
        video_path=path,
        object_ids=masks.object_ids,
        source=source,
        object_names=masks.object_names,
    )


def _frame_paths(folder: str) -> tuple[str, ...]:
    """Return the images of a folder, none of which are named alike."""
    names = files_in(folder, IMAGE_EXTENSIONS)
    if not names:
        allowed = ", ".join(IMAGE_EXTENSIONS)
        raise DataError(f"{folder}: no frame is in it; allowed are {allowed} files, one a frame", file=folder)
    (name, count), *_ = Counter(alike(stem(each)) for each in names).most_common(1)
    if count > 1:
        raise DataError(f"{folder}: two frames are named {name}; remove one of the files", file=folder)
    return tuple(os.path.join(folder, each) for each in names)


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
        # Without object ids it is one image of all objects.
        (path,) = annotation.files()
        coded[index] = LabelImage(path, coding)
    return replace(record, annotations=coded, **fields)


def with_colours(record: VideoRecord, colours: dict[str, tuple[int, int, int]] | None) -> VideoRecord:
    """Return a record whose masks are colours of classes, an object a class; as it is without a table."""
    if not colours:
        return record
    names = class_colours(colours)
    ids = tuple(names)
    return with_coding(record, "colours", colours=dict(colours), object_names=names, object_ids=ids)
