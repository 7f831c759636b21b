"""Formats that masks of new videos are written in, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.coco import COCO
from sam2vt.core.prediction.outputs.cvat import CVAT
from sam2vt.core.prediction.outputs.labels import DAVIS_ZIP, MOSE_ZIP, OBJECTS, PNG, YOUTUBE_VOS_ZIP
from sam2vt.core.prediction.outputs.objects_csv import CSV
from sam2vt.core.prediction.outputs.output import Output, Plan
from sam2vt.core.prediction.outputs.overlay import OVERLAY
from sam2vt.core.prediction.outputs.sav import SAV
from sam2vt.core.storage.disk import unwritable
from sam2vt.errors import ConfigError, DataError

OUTPUTS: dict[str, Output] = {
    "png": PNG,
    "objects": OBJECTS,
    "coco": COCO,
    "sav": SAV,
    "cvat": CVAT,
    "davis-zip": DAVIS_ZIP,
    "youtube-vos-zip": YOUTUBE_VOS_ZIP,
    "mose-zip": MOSE_ZIP,
    "overlay": OVERLAY,
    "csv": CSV,
}


def check_outputs(formats: Sequence[str], plans: Iterable[Plan] = ()) -> None:
    """Raise ConfigError, with every fault, for formats that do not exist or cannot store what is planned.

    Call it before anything is tracked. Objects that come from detections are checked when they are written.
    """
    unknown = [name for name in formats if name not in OUTPUTS]
    hint = "; write spaces between formats" if any("," in name for name in unknown) else ""
    faults = [f"there is no format {name}; allowed are {', '.join(OUTPUTS)}{hint}" for name in unknown]
    known = [name for name in dict.fromkeys(formats) if name in OUTPUTS]
    filled = Counter(OUTPUTS[name].fills for name in known if OUTPUTS[name].fills)
    for place, count in filled.items():
        if count > 1:
            names = " and ".join(name for name in known if OUTPUTS[name].fills == place)
            faults.append(f"{names} both fill {place}/; ask for one, and for the other in a call of its own")
    for plan in plans:
        refusals = {name: OUTPUTS[name].refusal(plan) for name in known}
        faults += [f"{name}: {refusal}" for name, refusal in refusals.items() if refusal]
    if faults:
        raise ConfigError.listing("what is to be written", faults)


def write_outputs(formats: Sequence[str], video: TrackedVideo, folder: Path) -> None:
    """Write the files of one finished video in each format. Raises DataError that names format and video."""
    for name in formats:
        plan = Plan(video.video_id, video.object_ids, first_frames=video.first_frames)
        refusal = OUTPUTS[name].refusal(plan)
        if refusal:
            raise DataError(f"{name}: {refusal}", video=video.video_id)
        with _told(folder):
            OUTPUTS[name].write(video, folder)


def join_outputs(formats: Sequence[str], videos: Sequence[TrackedVideo], folder: Path) -> None:
    """Write the files that the formats share among all videos, once all are finished. Raises DataError."""
    for name in formats:
        with _told(folder):
            OUTPUTS[name].join(videos, folder)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say in one message what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise unwritable(error.filename or folder, error) from None
