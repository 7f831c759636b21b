"""Check one video: its headers, its masks, its frames."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sam2vt.core.data.checking.findings import DataFault, ObjectNumbers, VideoFindings
from sam2vt.core.data.clips.key_frames import lacking_gap
from sam2vt.core.data.frames.images import image_size
from sam2vt.core.data.frames.reading import check_frames
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.masks.loading import load_masks, void_hint
from sam2vt.core.data.packed.reader import first_bytes
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

# Copies of a video already agree there; long files are not read whole.
_FINGERPRINT_BYTES = 1 << 20


@dataclass(frozen=True)
class VideoCheck:
    """The parts to check, and the clips that the video must provide."""

    depth: str = "masks"  # headers; masks: every mask, and a clip's frames; all: every frame, too
    clip_length: int = 5
    frame_stride: int = 1

    def __call__(self, record: VideoRecord) -> VideoFindings:
        """Return all findings of one video. Reads each mask once."""
        annotated = record.annotated_frames
        found = VideoFindings(
            video=record.video_id,
            source=record.source,
            kind=_kind(record),
            num_frames=len(record.frames),
            num_annotated=len(annotated),
            height=record.height,
            width=record.width,
            num_clips=self._num_clips(len(record.frames), annotated),
            fingerprint=_fingerprint(record),
            lacking_gap=lacking_gap(annotated, self.clip_length, [self.frame_stride]),
            is_still=record.is_still,
        )
        # Headers first: what cannot be opened must not be told again as frames that do not decode.
        found.faults += _header_faults(record)
        if self.depth != "headers":
            _read_masks(record, found)
            _decode(
                record, found, record.frames if self.depth == "all" else _middle(record.frames, self.span)
            )
        return found

    @property
    def span(self) -> int:
        return (self.clip_length - 1) * self.frame_stride + 1

    def _num_clips(self, num_frames: int, annotated: list[int]) -> int:
        """Return the number of windows; a video shorter than a clip gives one, padded."""
        num_starts = max(1, num_frames - self.span + 1)
        offsets = range(0, self.span, self.frame_stride)
        # A window counts if any of its frames is annotated.
        starts = {frame - offset for frame in annotated for offset in offsets}
        return sum(0 <= start < num_starts for start in starts)


def _header_faults(record: VideoRecord) -> Iterator[DataFault]:
    """Yield faults of frame files, or of the video file; masks are opened when they are read."""
    if record.video_path is not None:
        try:
            probe_video(record.video_path)
        except DataError as error:
            yield DataFault.of(error.at(video=record.video_id))
    size = (record.height, record.width)
    for frame, path in enumerate(record.frame_paths or ()):
        try:
            found = image_size(path, "frame")
            if found != size:
                raise DataError(
                    f"{path}: the frame is {found[1]}x{found[0]} (width x height), the video's first is "
                    f"{size[1]}x{size[0]}; all frames of a video have one size: resize it with its mask"
                )
        except DataError as error:
            yield DataFault.of(error.at(video=record.video_id, frame=frame, file=path))


def _read_masks(record: VideoRecord, found: VideoFindings) -> None:
    for frame in record.annotated_frames:
        errors: list[DataError] = []
        try:
            masks = load_masks(record, frame, errors)
        except DataError as error:  # what all masks of the frame need
            masks, errors = {}, [error]
        faults = [DataFault.of(each.at(video=record.video_id, frame=frame)) for each in errors]
        # A palette that changes on one frame is a fault of that frame alone.
        found.faults += [each for each in faults if each not in found.faults]
        names = record.names_of(masks)
        for object_id, mask in masks.items():
            numbers = found.objects.setdefault(object_id, ObjectNumbers(str(names.get(object_id, object_id))))
            numbers.add(frame, int(np.count_nonzero(mask)))
    # A mask that cannot be read may hold the objects that seem to be missing.
    if not found.objects and not found.faults:
        found.faults.append(
            DataFault(
                f"{record.source}: no object is visible on any of its {found.num_annotated} annotated "
                f"frames; leave the video out, or check its masks{void_hint(record)}",
                record.video_id,
            )
        )


def _decode(record: VideoRecord, found: VideoFindings, frames: range) -> None:
    """Decode each of these frames that has no fault yet, and collect the faults."""
    if any(fault.file == record.video_path for fault in found.faults if fault.file):
        return
    # Frames whose headers are wrong have been told already.
    bad = {fault.frame for fault in found.faults if fault.file in (record.frame_paths or ())}
    began = time.perf_counter()
    for error in check_frames(record, [frame for frame in frames if frame not in bad]):
        if error is None:
            found.decoded_frames += 1
        else:
            found.faults.append(DataFault.of(error.at(video=record.video_id)))
    found.decode_seconds = time.perf_counter() - began


def _middle(frames: range, span: int) -> range:
    start = max(0, (len(frames) - span) // 2)
    return frames[start : start + span]


def _kind(record: VideoRecord) -> str:
    if record.packed is not None:
        return f"packed {record.packed.file[0].lstrip('.')} files" if record.packed.file else "packed images"
    path = record.video_path or (record.frame_paths or ("",))[0]
    ending = os.path.splitext(path)[1].lower().lstrip(".") or "?"
    if record.video_path is None:
        return f"{ending} images"
    try:
        return f"{ending}, {probe_video(path).codec}"
    except DataError:
        return f"{ending}, unreadable"


def _fingerprint(record: VideoRecord) -> str:
    path = record.video_path or (record.frame_paths or (record.source,))[0]
    try:
        if record.packed is not None:
            start = first_bytes(record, _FINGERPRINT_BYTES)
            return f"{len(start)}-{hashlib.sha256(start).hexdigest()[:16]}"
        with open(path, "rb") as file:
            start = file.read(_FINGERPRINT_BYTES)
        return f"{os.path.getsize(path)}-{hashlib.sha256(start).hexdigest()[:16]}"
    except (OSError, DataError):
        return f"unreadable {path}"
