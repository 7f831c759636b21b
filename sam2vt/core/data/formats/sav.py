"""Read SA-V: <video>.mp4 with <video>_manual.json and/or <video>_auto.json, in a folder or a level below.

Every n-th frame is annotated; n is 4 in SA-V itself (masks at 6 of 24 frames per second). An object is a
masklet. Those of the manual file come first; names are "manual 0", "auto 0" and so on.
"""

from __future__ import annotations

import os
from functools import partial

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions, only
from sam2vt.core.data.formats.listing import VIDEO_EXTENSIONS, and_inner, files_in, some, stem
from sam2vt.core.data.formats.records import check_fits, file_record
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.masks.masklets import Masklets, number_objects, read_masklets
from sam2vt.core.types import MaskletFrame, VideoRecord
from sam2vt.errors import DataError, located

ENDINGS = ("_manual.json", "_auto.json")
_USUAL_STRIDE = 4


def load_sav(files: dict[str, list[str]], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every video. Raises DataError for a file without its video, or that does not
    fit it.
    """
    videos = {name: _find_video(paths[0], name) for name, paths in files.items()}
    missing = [name for name, path in videos.items() if path is None]
    options.lonely(
        [f"{name}.mp4" for name in missing],
        os.path.dirname(files[missing[0]][0]) if missing else "",
        f"of {len(files)} masklet files have no video beside them",
        "put the videos there, or remove the JSON files",
        video=only([os.path.basename(name) for name in missing]),
        file=only([files[name][0] for name in missing]),
    )
    return options.records(
        lambda name: _record(os.path.basename(name), str(videos[name]), files[name]),
        (name for name in files if videos[name]),
        lambda name: {"video": os.path.basename(name), "file": files[name][0]},
    )


def find_masklet_files(path: str) -> dict[str, list[str]]:
    """Return video with its folder -> its masklet files, manual before auto."""
    if os.path.isfile(path):
        base = next((path[: -len(end)] for end in ENDINGS if path.endswith(end)), None)
        return {base: [path]} if base else {}
    found: dict[str, list[str]] = {}
    for folder in and_inner(path):
        for ending in ENDINGS:
            for name in files_in(folder, (ending,)):
                file = os.path.join(folder, name)
                found.setdefault(file[: -len(ending)], []).append(file)
    return dict(sorted(found.items()))


def _find_video(masklet_path: str, name: str) -> str | None:
    folder, base = os.path.dirname(masklet_path), os.path.basename(name)
    fitting = [each for each in files_in(folder, VIDEO_EXTENSIONS) if stem(each) == base]
    return os.path.join(folder, fitting[0]) if fitting else None


def _record(video_id: str, video_path: str, paths: list[str]) -> VideoRecord:
    files = []
    for path in paths:
        with located(file=path):
            files.append(read_masklets(path))
    probe = probe_video(video_path)
    for file in files:
        check_fits(probe, (file.num_video_frames, file.height, file.width), file.path)
    stride = _stride(files, video_path)
    # Masks stay in their files: all RLEs of a video would take megabytes per record.
    frames = range(len(files[0].frames))
    annotations = {place * stride: MaskletFrame(tuple(paths), place) for place in frames}
    numbers = number_objects(files)
    names = [
        name if isinstance(name, str) and name else f"{_kind(file.path)} {each}"
        for file in files
        for each, name in zip(file.ids, file.names)
    ]
    ids, named = tuple(sorted(numbers)), dict(zip(numbers, names))
    return file_record(video_id, probe, annotations, paths[0], object_ids=ids, object_names=named)


def annotation_stride(num_frames: int, num_annotated: int) -> int | None:
    """Return SA-V's own stride, else the smallest that gives as many annotated frames, or None."""
    # Several strides may give the same number of annotated frames; SA-V annotates every fourth.
    strides = (_USUAL_STRIDE, *range(1, num_frames + 1))
    return next((each for each in strides if -(-num_frames // each) == num_annotated), None)


def _stride(files: list[Masklets], video_path: str) -> int:
    """Return the stride from one annotated frame to the next. Raises DataError if none fits."""
    num_frames, counts = files[0].num_video_frames, {len(file.frames) for file in files}
    if len(counts) > 1:
        raise DataError(
            f"{files[1].path}: annotates {len(files[1].frames)} frames, {files[0].path} "
            f"{len(files[0].frames)}; both must annotate the same frames of {video_path}",
            file=files[1].path,
        )
    (count,) = counts
    stride = annotation_stride(num_frames, count)
    if stride is None:
        raise DataError(
            f"{files[0].path}: annotates {count} frames, which are not every n-th of the {num_frames} frames "
            f"of {video_path} for any n; every n-th frame needs masks, from the first on"
        )
    return stride


def _kind(path: str) -> str:
    return "manual" if path.endswith(ENDINGS[0]) else "auto"


def _recognise(path: str) -> Found | None:
    files = find_masklet_files(path)
    if not files:
        return None
    why = f"it has {some((os.path.basename(each) for paths in files.values() for each in paths), 3)}"
    return Found("SA-V videos with masklets", why, partial(load_sav, files))


LAYOUT = Layout("SA-V: <video>.mp4 beside <video>_manual.json or <video>_auto.json", _recognise)
