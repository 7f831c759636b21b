"""Make prompts from masks: folders of images, and annotations of a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial

from sam2vt.core.data.formats.frame_order import frame_numbers
from sam2vt.core.data.formats.layout import ReadOptions
from sam2vt.core.data.formats.listing import alike, some, subfolders
from sam2vt.core.data.formats.mask_folders import MaskFolder, match_frame_names, read_mask_folder
from sam2vt.core.data.formats.paths import is_inside
from sam2vt.core.data.formats.records import coloured
from sam2vt.core.data.masks.loading import iterate_first_masks, load_masks, void_hint
from sam2vt.core.prediction.entries import Faults, check_videos
from sam2vt.core.prediction.prompts import Prompts
from sam2vt.core.prediction.types import ObjectPrompt, VideoPrompts
from sam2vt.core.types import FrameAnnotation, VideoRecord
from sam2vt.errors import DataError


def prompts_from_masks(
    folder: str,
    videos: Mapping[str, Sequence[str] | None],
    options: ReadOptions | None = None,
) -> Prompts:
    """Return the prompts in a folder of masks: each object of each image is shown anew on that frame.

    `videos`: the ids of the source's videos -> the names of their frames without endings; None if frames have
    no names: then the last number in a mask's name is the frame's index. The folder contains a folder per
    video, or the masks of a single video: label images, or a folder of images per object. `options` may name
    colours. Raises DataError for masks that belong to no video or frame; `for_video` opens them.
    """
    folder = os.fspath(folder)
    faults = Faults(folder)
    found = {}
    for video, path in _folders(folder, list(videos)).items():
        try:
            masks = read_mask_folder(path)
            found[video] = masks, _match(masks, videos[video])
        except DataError as error:
            faults.add(f"video {video}", str(error))
    faults.check()
    return Prompts(
        folder, {video: partial(_load, *each, options or ReadOptions()) for video, each in found.items()}
    )


def _folders(folder: str, ids: list[str]) -> dict[str, str]:
    """Return the folder of each video. Raises DataError if folders and videos do not fit."""
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: is no folder; allowed is a folder of masks (--masks)", file=folder)
    paths = {video: os.path.join(folder, video) for video in ids}
    present = {
        video: path for video, path in paths.items() if os.path.isdir(path) and is_inside(path, folder)
    }
    if len(ids) == 1 and not present:
        _refuse_other_video(folder, ids[0])
        return {ids[0]: folder}
    # An id may lead through several folders.
    tops = {alike(video.split("/")[0]) for video in present}
    strange = [each for each in subfolders(folder) if alike(each) not in tops]
    check_videos(folder, [*present, *strange], ids)
    return present


def _refuse_other_video(folder: str, video: str) -> None:
    """Raise DataError if the subfolders are those of another video, not of this one's objects."""
    inner = [each for each in subfolders(folder) if not each.isdecimal()]
    close = get_close_matches(video, inner, n=1)
    if close:
        raise DataError(
            f"{folder}: has a folder {close[0]}, but the video is {video}; name the folder as the video, or "
            "put the masks into the folder itself",
            file=folder,
        )


def _match(masks: MaskFolder, frame_names: Sequence[str] | None) -> dict[int, FrameAnnotation]:
    """Return the masks by frame index. Raises DataError for masks of no frame."""
    if frame_names is not None:
        return match_frame_names(masks, list(frame_names))
    numbers = dict(zip(masks.by_name, frame_numbers(list(masks.by_name))))
    found = {number: masks.by_name[each] for each, number in numbers.items() if number is not None}
    if len(found) < len(numbers):
        raise DataError(
            f"{masks.path}: the names of its {len(numbers)} masks do not tell which frames they are: "
            f"{some(numbers)}; allowed are names with the index of a frame, from 0: 00012 is frame 12",
            file=masks.path,
        )
    return found


def _load(
    folder: MaskFolder,
    annotations: Mapping[int, FrameAnnotation],
    options: ReadOptions,
    video_id: str,
    height: int,
    width: int,
    num_frames: int | None,
) -> VideoPrompts:
    faults = Faults(folder.path)
    length = num_frames or max(annotations) + 1
    record = VideoRecord(
        video_id,
        length,
        height,
        width,
        dict(sorted(annotations.items())),
        video_path=video_id,  # for messages: masks alone are read
        object_ids=folder.object_ids,
        object_names=folder.object_names,
        source=folder.path,
    )
    record = coloured(record, options)
    for frame in (each for each in record.annotations if each >= length):
        faults.add(
            f"video {video_id}, frame {frame}",
            f"is not in the video, which has {length} frames; allowed is 0 to {length - 1}",
        )
    prompts = []
    errors: list[DataError] = []
    for frame in record.annotated_frames:
        for object_id, mask in load_masks(record, frame, errors).items():
            where = (
                f"{record.annotations[frame].files()[0]}: video {video_id}, object {object_id}, frame {frame}"
            )
            prompts.append(ObjectPrompt(object_id, frame, mask=mask, where=where))
    for error in errors:
        faults.add(f"video {video_id}, frame {error.place['frame']}", str(error))
    if not prompts and not faults.count:
        hint = void_hint(record)
        faults.add(f"video {video_id}", f"none of its {len(annotations)} masks shows an object{hint}")
    faults.check(video=video_id)
    return VideoPrompts(tuple(prompts), _names(record, prompts))


def first_masks(record: VideoRecord) -> VideoPrompts:
    """Return each object's mask on its first visible frame, at the source's size.

    Frames count from the start of the whole video. Raises DataError for masks that cannot be read, and if no
    object is ever visible.
    """
    prompts = [
        ObjectPrompt(
            object_id,
            frame,
            mask=mask,
            where=f"{record.source}: video {record.video_id}, object {object_id}, frame {frame}",
        )
        for frame, object_id, mask in iterate_first_masks(record)
    ]
    return VideoPrompts(tuple(prompts), _names(record, prompts))


def _names(record: VideoRecord, prompts: Sequence[ObjectPrompt]) -> dict[int, str]:
    names = record.names_of(each.object_id for each in prompts)
    return {each: str(name) for each, name in names.items() if name}
