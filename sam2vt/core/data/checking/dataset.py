"""Check a whole dataset: its videos one by one, in several processes, and what they have in common."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sam2vt.core.data.checking.findings import DataFault, VideoFindings
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.clips.key_frames import Sparse
from sam2vt.core.data.formats.listing import some
from sam2vt.core.data.workers import process_pool, with_progress
from sam2vt.core.storage.disk import unreadable
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

# Each task costs a round trip between processes; more per task would leave workers idle at the end.
_VIDEOS_A_TASK = 8
_LENGTH_AND_STRIDE = (
    "dataset.video_clip_length (--clip-length)",
    "dataset.frame_stride (--frame-stride)",
)

Load = Callable[[list[DataError], list[str]], Sequence[VideoRecord]]  # given what collects faults, and notes


@dataclass
class DatasetFindings:
    """Faults prevent training; notes name what the user may not have intended."""

    path: str
    videos: list[VideoFindings] = field(default_factory=list)
    faults: list[DataFault] = field(default_factory=list)  # of the dataset, then of each video
    notes: list[str] = field(default_factory=list)


def check_dataset(
    path: str,
    load: Load,
    check: VideoCheck,
    *,
    image_size: int = 512,
    workers: int | None = None,
) -> tuple[DatasetFindings, Sequence[VideoRecord]]:
    """Return all faults of a dataset, and the records of the readable videos.

    `load` gets two lists: one for the faults of single videos, one for notes.
    """
    errors: list[DataError] = []
    notes: list[str] = []
    try:
        records = load(errors, notes)
    except DataError as error:
        records, errors = [], [*errors, error]
    # An error of the disk is a fault as any other.
    except OSError as error:
        if error.filename is None:
            raise
        records, errors = [], [*errors, unreadable(str(error.filename), error)]
    found = DatasetFindings(path, faults=[DataFault.of(error) for error in errors])
    found.videos = list(with_progress(_check_all(records, check, workers), len(records), "video"))
    # A fault of the dataset comes first: it may explain those of its videos.
    found.faults += [fault for video in found.videos for fault in video.faults]
    found.notes = [*notes, *_notes(found.videos, check, image_size)]
    return found, records


def _check_all(
    records: Sequence[VideoRecord], check: VideoCheck, workers: int | None
) -> Iterator[VideoFindings]:
    """Yield the findings of each video, in the order of the records."""
    workers = workers or os.cpu_count() or 1
    # Starting processes takes longer than checking a handful of videos.
    if workers == 1 or len(records) <= _VIDEOS_A_TASK:
        yield from map(check, records)
        return
    with process_pool(workers) as pool:
        yield from pool.map(check, records, chunksize=_VIDEOS_A_TASK)


def _notes(videos: list[VideoFindings], check: VideoCheck, image_size: int) -> Iterator[str]:
    stills = [video for video in videos if video.is_still]
    if stills and len(stills) == len(videos):
        yield (
            f"all {len(videos)} are stills, whose clips show an image by a moving camera; J and F need "
            "videos: train with valdataset.data_path naming some, or with trainer.limit_val_batches=0"
        )
    # A still has one frame and no length: notes about time mean nothing there.
    moving = [video for video in videos if not video.is_still]
    short = [v.video for v in moving if v.num_frames < check.span]
    if short:
        yield (
            f"{some(short)}: fewer frames than a clip of {check.clip_length} at stride {check.frame_stride} "
            "needs; clips are padded, and what is padded counts nowhere"
        )
    sparse = _sparse(videos, check)
    if sparse.names:
        yield sparse.text(*_LENGTH_AND_STRIDE)
    yield from _alike(videos)
    objects = [(f"{v.video} object {o.name}", v, o) for v in videos for o in v.objects.values()]
    lost = [name for name, video, each in objects if each.frames == 1 and not video.is_still]
    if lost:
        yield f"{some(lost)}: visible on a single frame, so there is nothing to track"
    # By the largest area: an object may start small and grow.
    tiny = [name for name, v, each in objects if each.largest * image_size**2 < v.height * v.width]
    if tiny:
        yield f"{some(tiny)}: cover less than a pixel at {image_size} px; raise model.image_size"
    yield from _unread(videos, check)


def _sparse(videos: list[VideoFindings], check: VideoCheck) -> Sparse:
    """Count videos whose clips hold no second annotated frame."""
    found = Sparse(check.clip_length, check.frame_stride)
    for video in videos:
        if check.clip_length > 1 and not video.is_still:
            found.add(video.video, video.lacking_gap)
    return found


def _alike(videos: list[VideoFindings]) -> Iterator[str]:
    alike = defaultdict(list)
    for video in videos:
        alike[video.fingerprint].append(video)
    for group in (group for group in alike.values() if len(group) > 1):
        what = "are" if all(video.is_still for video in group) else "begin with"
        names = some(video.video for video in group)
        yield f"{names}: {what} the very same frame; keep them on one side of a split"


def _unread(videos: list[VideoFindings], check: VideoCheck) -> Iterator[str]:
    """Yield what was not looked at, so that nobody takes it for sound."""
    decoded, total = sum(v.decoded_frames for v in videos), sum(v.num_frames for v in videos)
    if check.depth == "all" or decoded == total:
        return
    is_shallow = check.depth == "headers"
    what = ", and no mask was read" if is_shallow else ", those of a clip in the middle of each video"
    yield f"{decoded} of {total} frames were decoded{what}; --read all decodes every frame"
