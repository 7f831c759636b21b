"""Make records of videos and masks that a layout has found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sam2vt.core.data.formats.frame_order import frame_order
from sam2vt.core.data.formats.layout import ReadOptions
from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, alike, files_in, stem
from sam2vt.core.data.formats.mask_folders import (
    match_frame_names,
    match_frame_numbers,
    read_mask_folder,
)
from sam2vt.core.data.frames.images import image_size, intensity_range
from sam2vt.core.data.frames.video import VideoProbe, probe_video
from sam2vt.core.data.masks.codings import class_colours
from sam2vt.core.data.masks.labels import check_size
from sam2vt.core.types import FrameAnnotation, LabelImage, VideoRecord
from sam2vt.errors import DataError, located


def read_videos(
    videos: Iterable[tuple[str, str, str]],
    options: ReadOptions,
    describe: Callable[[VideoRecord], VideoRecord] = lambda record: record,
) -> list[VideoRecord]:
    """Return the record of each (video id, folder of frames or video file, folder of masks).

    `describe` adds further facts from the layout. With a table of colours, masks show one object per class.
    Raises DataError naming the folder or file.
    """

    def build(video: tuple[str, str, str]) -> VideoRecord:
        return coloured(describe(_read_video(*video, options.look)), options)

    def place(video: tuple[str, str, str]) -> dict[str, str]:
        return {"video": video[0]} | ({"file": video[1]} if os.path.isfile(video[1]) else {})

    return options.records(build, videos, place)


def coloured(record: VideoRecord, options: ReadOptions) -> VideoRecord:
    """Return the record with its masks read by colour, if the options say so."""
    if not options.colours:
        return record
    if isinstance(options.colours, str):
        return with_coding(record, options.colours)
    names, colours = class_colours(options.colours), dict(options.colours)
    return with_coding(record, "colours", colours=colours, object_names=names, object_ids=tuple(names))


def _read_video(video_id: str, source: str, mask_folder: str, look: bool) -> VideoRecord:
    """Return the record of frames in natural order, or of a video file.

    With `look` the first mask has to be of the frames' size; whoever reads all masks finds that out later.
    """
    is_file = os.path.isfile(source)
    paths = () if is_file else frame_paths(source)
    # Before the video is probed, which may decode all of it.
    masks = read_mask_folder(mask_folder)
    fields: dict[str, Any] = {"object_ids": masks.object_ids, "object_names": masks.object_names}
    if is_file:
        probe = probe_video(source)
        annotations = match_frame_numbers(masks, probe.num_frames, source)
        record = file_record(video_id, probe, annotations, source, **fields)
    else:
        annotations = match_frame_names(masks, [stem(os.path.basename(each)) for each in paths])
        record = image_record(video_id, paths, first_size(paths), annotations, source, **fields)
    if look:
        path = annotations[min(annotations)].files()[0]
        with located(file=path):
            check_size(record, path)
    return record


def first_size(paths: Sequence[str]) -> tuple[int, int]:
    """Return (height, width) of the first frame."""
    with located(frame=0):
        return image_size(paths[0], "frame")


def check_fits(probe: VideoProbe, stated: tuple[int, int, int], path: str) -> None:
    """Raise DataError if a file is for another (frames, height, width) than the video's."""
    # A re-encoded video may have frames more or fewer, and all masks would be shifted.
    if stated != (probe.num_frames, probe.height, probe.width):
        raise DataError(
            f"{path}: is for {stated[0]} frames of {stated[2]}x{stated[1]} (width x height), but "
            f"{probe.path} has {probe.num_frames} of {probe.width}x{probe.height}: it is another video, or "
            "re-encoded; use the video the masks were drawn on",
            file=path,
        )


def image_record(
    video_id: str,
    paths: Sequence[str],
    size: tuple[int, int],
    annotations: Mapping[int, FrameAnnotation],
    source: str,
    **fields: Any,
) -> VideoRecord:
    """Return the record of a video of one image per frame; `size` is (height, width)."""
    return VideoRecord(
        video_id, len(paths), *size, dict(annotations), frame_paths=tuple(paths), source=source, **fields
    )


def bare_record(video_id: str, path: str, frames: Sequence[str] = ()) -> VideoRecord:
    """Return the record of a video without masks: the file `path`, or the images `frames` in order.

    Raises DataError naming the file.
    """
    if not frames:
        return file_record(video_id, probe_video(path), {}, path)
    depth = intensity_range(frames)
    return image_record(video_id, frames, first_size(frames), {}, path, intensity_range=depth)


def file_record(
    video_id: str, probe: VideoProbe, annotations: Mapping[int, FrameAnnotation], source: str, **fields: Any
) -> VideoRecord:
    """Return the record of a video file that was probed."""
    size, path = (probe.height, probe.width), probe.path
    return VideoRecord(
        video_id, probe.num_frames, *size, dict(annotations), video_path=path, source=source, **fields
    )


def frame_paths(folder: str) -> tuple[str, ...]:
    """Return the images of a folder in order. Raises DataError if there are none, or two with equal names."""
    names = in_order(files_in(folder, IMAGE_EXTENSIONS), folder)
    return tuple(os.path.join(folder, name) for name in names)


def in_order(names: Sequence[str], folder: str) -> list[str]:
    """Return the names of a video's frames in order. Raises DataError for none, or two equal names."""
    if not names:
        allowed = ", ".join(IMAGE_EXTENSIONS)
        raise DataError(f"{folder}: no frame in it; allowed are {allowed} files, one per frame", file=folder)
    (name, count), *_ = Counter(alike(stem(each)) for each in names).most_common(1)
    if count > 1:
        raise DataError(f"{folder}: two frames are named {name}; remove one of the files", file=folder)
    return [names[place] for place in frame_order([stem(each) for each in names], folder)]


def with_coding(record: VideoRecord, coding: str, **fields: Any) -> VideoRecord:
    """Return the record with another coding of its label images, and the fields that this coding needs.

    Raises DataError if a frame has an image per object.
    """
    coded: dict[int, FrameAnnotation] = {}
    for index, annotation in record.annotations.items():
        if annotation.object_ids() is not None:
            raise DataError(
                f"{record.source}: video {record.video_id} has a folder of masks per object; with masks of "
                f"the kind {coding} it must have one image per frame: put the masks of a frame into one image"
            )
        # Without object ids it is one image of all objects.
        (path,) = annotation.files()
        coded[index] = LabelImage(path, coding)
    return replace(record, annotations=coded, **fields)
