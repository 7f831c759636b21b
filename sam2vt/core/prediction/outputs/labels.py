"""Write PNG masks as in DAVIS, and zips of them for the servers of three benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np

from sam2vt.core.data.formats.tree import MASKS
from sam2vt.core.data.masks.labels import VOID
from sam2vt.core.data.writing.davis import LARGEST_ID, encode_labels, meta_entry, paint_labels, write_meta
from sam2vt.core.data.writing.folder import write_file
from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.output import Output, Plan, id_refusal
from sam2vt.core.storage.disk import write_whole
from sam2vt.errors import DataError

_REMEDY = "a label image has one object per pixel; ask for objects, or set --overlaps resolve"
_MOST_FOLDERS = 2**63 - 1  # ids are int64


def _write_labels(video: TrackedVideo, folder: Path) -> None:
    for stem, data in _label_images(video):
        write_file(folder / MASKS / video.name / f"{stem}.png", data)


def _label_images(video: TrackedVideo) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of one PNG per frame. Raises DataError naming frame and objects that overlap."""
    # 255 is void in 8 bits; all frames of a video have the same depth.
    is_deep = max(video.object_ids, default=0) >= VOID
    size = (video.height, video.width)
    for stem, masks in zip(video.stems, video.frames(), strict=True):

        def refuse(overlap: str, frame: int = masks.frame) -> None:
            raise DataError(f"video {video.video_id}, frame {frame}: {overlap}, but {_REMEDY}", frame=frame)

        yield stem, encode_labels(paint_labels(size, masks.masks, is_deep, tell=refuse))


def _write_objects(video: TrackedVideo, folder: Path) -> None:
    """Write a file per object and frame, empty if the object is absent: no file would say unknown."""
    size = (video.height, video.width)
    empty = encode_labels(np.zeros(size, dtype=np.uint8))
    for stem, masks in zip(video.stems, video.frames(), strict=True):
        shown = masks.masks
        for key in video.object_ids:
            data = encode_labels(paint_labels(size, {1: shown[key]})) if key in shown else empty
            write_file(folder / MASKS / video.name / str(key) / f"{stem}.png", data)


def _join_names(videos: Sequence[TrackedVideo], folder: Path) -> None:
    """Write meta.json as YouTube-VOS has it; without one where a video has objects without names."""
    entries = {video.name: meta_entry(video.object_ids, video.names) for video in videos}
    if entries and all(entries.values()):
        write_meta(folder, entries)


def _submit(videos: Sequence[TrackedVideo], folder: Path, file: str, top: str) -> None:
    """Write a zip with the folder of each video below `top`; the same masks give the same bytes."""
    with write_whole(folder / file) as written, ZipFile(written, "w") as archive:
        for video in videos:
            for stem, data in _label_images(video):
                # Its time is fixed, and PNGs do not shrink further: another zlib would give other bytes.
                entry = ZipInfo(f"{top}{video.name}/{stem}.png")
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, data)


def _label_refusal(plan: Plan, most: int) -> str | None:
    if plan.keeps_overlaps:
        return f"overlapping masks are kept (--overlaps keep), but {_REMEDY}"
    return id_refusal(
        plan, 1, most, f"a label image of {'8' if most < VOID else '16'} bits", "objects or coco"
    )


def _submission(server: str, file: str, top: str = "") -> Output:
    join: Callable[[Sequence[TrackedVideo], Path], None] = partial(_submit, file=file, top=top)
    # Their tools read PNGs of 8 bits.
    return Output(f"{file} for {server}", join=join, refusal=partial(_label_refusal, most=VOID - 1))


PNG = Output(
    f"palette PNGs, {MASKS}/<video>/<frame>.png, and meta.json with names: beside JPEGImages/ a DAVIS tree",
    _write_labels,
    _join_names,
    partial(_label_refusal, most=LARGEST_ID),
    fills=MASKS,
)
OBJECTS = Output(
    f"a PNG per object and frame, {MASKS}/<video>/<object>/<frame>.png: overlaps stay",
    _write_objects,
    _join_names,
    partial(id_refusal, least=0, most=_MOST_FOLDERS, what="a folder of masks", instead="coco"),
    fills=MASKS,
)
# DAVIS's scorer asserts that the folders of the videos are at the top of the zip, not in another folder.
DAVIS_ZIP = _submission("the server of DAVIS 2017 test-dev", "davis.zip")
# As Cutie packs what its authors submitted; the server's own frames are every fifth of a video.
YOUTUBE_VOS_ZIP = _submission("the server of YouTube-VOS 2018 and 2019", "youtube-vos.zip", f"{MASKS}/")
# MOSEv2's README zips the content of the folder of results; Cutie does the same for MOSEv1.
MOSE_ZIP = _submission("the servers of MOSEv1 and MOSEv2", "mose.zip")
