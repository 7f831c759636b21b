"""Read the Cell Tracking Challenge: 01/t000.tif with 01_GT/TRA and 01_GT/SEG or 01_ST/SEG.

Each sequence (01, 02, ...) is a video. TRA/man_track000.tif marks every cell with the number of its track,
and man_track.txt lists the tracks. SEG/man_seg000.tif contains the outlines of the cells, whose own numbers
mean nothing. Only frames with a SEG image are annotated: from 01_GT if it has one, else from 01_ST.
"""

from __future__ import annotations

import os
import re
from functools import partial

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import files_in, last_number, some, subfolders, text_lines
from sam2vt.core.data.formats.records import first_size, image_record
from sam2vt.core.data.frames.images import intensity_range
from sam2vt.core.types import FrameAnnotation, LabelImage, VideoRecord
from sam2vt.errors import DataError, located

_TIFF = (".tif", ".tiff")
_SEQUENCE = re.compile(r"\d{2,}")
_SLICE = re.compile(r"man_seg_\d+_\d+")  # of a 3D stack: frame and slice


def load_ctc(root: str, sequences: list[str], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every sequence. Raises DataError for 3D data and for sequences without outlines."""
    return options.records(partial(_sequence, root), sequences, lambda name: {"video": name})


def _sequence(root: str, name: str) -> VideoRecord:
    folder, tra = os.path.join(root, name), os.path.join(root, f"{name}_GT", "TRA")
    paths = _by_number(folder, "t")
    # Numbers may have gaps: frame t007 is not always the eighth.
    places = {number: place for place, number in enumerate(sorted(paths))}
    if not places:
        raise DataError(f"{folder}: no frame is in it; allowed are t000.tif, t001.tif, ...: copy the frames")
    list_path = os.path.join(tra, "man_track.txt")
    with located(file=list_path):
        tracks = _read_tracks(list_path, max(places))
    annotations: dict[int, FrameAnnotation] = {}
    markers = _by_number(tra, "man_track")
    for number, path in sorted(_segments(root, name).items()):
        for has, what in ((paths, folder), (markers, tra)):
            if number not in has:
                raise DataError(
                    f"{path}: there is no image of frame {number} in {what}; a mask needs its frame "
                    "(t000.tif) and its markers (man_track000.tif): restore them or remove the mask",
                    file=path,
                )
        annotations[places[number]] = LabelImage(path, "ctc", markers[number])
    frames = tuple(paths[number] for number in places)
    size = first_size(frames)
    return image_record(
        name,
        frames,
        size,
        annotations,
        folder,
        object_ids=tuple(sorted(tracks)),
        parents={track: parent for track, parent in tracks.items() if parent},
        intensity_range=intensity_range(frames),
    )


def _by_number(folder: str, prefix: str) -> dict[int, str]:
    """Return the TIFFs of a folder whose name is the prefix and a number."""
    found: dict[int, str] = {}
    for name in files_in(folder, _TIFF):
        number = last_number(os.path.splitext(name)[0])
        if not re.fullmatch(rf"{prefix}\d+\.tiff?", name.lower()) or number is None:
            raise DataError(
                f"{os.path.join(folder, name)}: unexpected name; files here are named {prefix}000.tif, "
                f"{prefix}001.tif, ...: rename or remove it",
                file=os.path.join(folder, name),
            )
        if number in found:
            raise DataError(f"{folder}: two files are of frame {number}, such as {name}; remove one")
        found[number] = os.path.join(folder, name)
    return found


def _segments(root: str, name: str) -> dict[int, str]:
    """Return frame number -> its outlines: gold truth before silver."""
    found: dict[int, str] = {}
    # Silver first: gold overwrites it where a frame has both.
    for kind in ("ST", "GT"):
        folder = os.path.join(root, f"{name}_{kind}", "SEG")
        slices = [each for each in files_in(folder, _TIFF) if _SLICE.match(each)]
        if slices:
            raise DataError(
                f"{os.path.join(folder, slices[0])}: outlines of single slices belong to 3D data, which is "
                "not supported; allowed are 2D sequences: project or cut the stacks to 2D images"
            )
        found.update(_by_number(folder, "man_seg"))
    if not found:
        raise DataError(
            f"{root}: sequence {name} has no outlines: neither {name}_GT/SEG nor {name}_ST/SEG holds "
            "man_seg000.tif; TRA marks cells only by dots: add one of the folders"
        )
    return found


def _read_tracks(path: str, last_frame: int) -> dict[int, int]:
    """Return track -> its parent, 0 for none."""
    tracks: dict[int, int] = {}
    for place, line in text_lines(path, "restore the file"):
        fields = line.split()
        if len(fields) != 4 or not all(re.fullmatch(r"[0-9]{1,9}", each) for each in fields):
            raise DataError(
                f"{path}: line {place} is {' '.join(fields)[:60]!r}; a line holds four numbers: track, first "
                "frame, last frame, parent (0: none): correct it"
            )
        track, first, last, parent = map(int, fields)
        if not track or track in tracks or not first <= last <= last_frame:
            what = "0" if not track else "listed twice" if track in tracks else f"on frames {first} to {last}"
            raise DataError(
                f"{path}: line {place}: track {track} is {what}; tracks are numbered from 1, listed once, "
                f"and are within frames 0 to {last_frame}: correct the line"
            )
        tracks[track] = parent
    lost = [parent for parent in tracks.values() if parent and parent not in tracks]
    if lost or not tracks:
        what = f"track {lost[0]} is a parent, but has no line" if lost else "lists no track"
        raise DataError(f"{path}: {what}; every track has a line: restore the file")
    return tracks


def _recognise(path: str) -> Found | None:
    above, name = os.path.split(path)
    root, names = (above, [name]) if _is_sequence(above, name) else (path, subfolders(path))
    found = [each for each in names if _is_sequence(root, each)]
    if not found:
        return None
    why = f"{root} holds {some(found)} with {found[0]}_GT"
    return Found("Cell Tracking Challenge", why, partial(load_ctc, root, found))


def _is_sequence(root: str, name: str) -> bool:
    truths = [os.path.join(root, f"{name}_{kind}") for kind in ("GT", "ST")]
    return _SEQUENCE.fullmatch(name) is not None and any(map(os.path.isdir, truths))


LAYOUT = Layout("Cell Tracking Challenge: 01/t000.tif with 01_GT/TRA and 01_GT/SEG or 01_ST/SEG", _recognise)
