"""Read MOTS text: a line per object and frame, with frame, id, class, height, width and RLE.

MOTSChallenge has <sequence>/gt/gt.txt beside <sequence>/img1/, KITTI instances_txt/<sequence>.txt beside the
folders of MOTS PNG. A line's frame is the image with that number. Class 10 is void. Frames without a line are
not annotated.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import NamedTuple

from sam2vt.core.data.formats.coco_identity import say_united
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import and_inner, files_in, last_number, some, stem, text_lines
from sam2vt.core.data.formats.mots import FRAME_FOLDERS
from sam2vt.core.data.formats.records import first_size, frame_paths, image_record
from sam2vt.core.data.masks.codings import MOTS_CLASSES, MOTS_IGNORED
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError, located

_TEXT, _IMAGES, _TEXTS = os.path.join("gt", "gt.txt"), "img1", "instances_txt"
_LINE = re.compile(r"(\d{1,9}) (\d{1,9}) (\d{1,9}) (\d{1,9}) (\d{1,9}) (\S+)", re.ASCII)


class _Sequence(NamedTuple):
    video_id: str
    text: str
    frames: str  # their folder


def load_mots_text(sequences: list[_Sequence], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of each sequence. Raises DataError naming file and line."""
    return options.records(_record, sequences, lambda each: {"video": each.video_id, "file": each.text})


def _record(sequence: _Sequence) -> VideoRecord:
    paths = frame_paths(sequence.frames)
    places = {last_number(stem(os.path.basename(path))): place for place, path in enumerate(paths)}
    if None in places or len(places) < len(paths):
        raise DataError(
            f"{sequence.frames}: the frames are not told apart by the last number in their names, which the "
            f"lines of {sequence.text} name; rename them, such as 000001.jpg",
            file=sequence.frames,
        )
    size = first_size(paths)
    annotations: dict[int, Segmentations] = {}
    names: dict[int, str] = {}
    for where, (number, key, kind, height, width), counts in _lines(sequence.text):
        if number not in places:
            raise DataError(f"{where}: frame {number} has no image in {sequence.frames}; add it")
        found = annotations.setdefault(places[number], Segmentations({}))
        segmentation = {"size": [height, width], "counts": counts}
        with located(frame=places[number], object=key):
            if (height, width) != size:
                raise DataError(
                    f"{where}: the mask is {width}x{height} (width x height), {paths[0]} is "
                    f"{size[1]}x{size[0]}; use the frames that the masks were drawn on"
                )
        if kind == MOTS_IGNORED:
            found.void.append(segmentation)
            continue
        found.objects.setdefault(key, []).append(segmentation)
        names.setdefault(key, MOTS_CLASSES.get(kind, f"class {kind}"))
    if not names:
        raise DataError(f"{sequence.text}: no line shows an object; annotate one, or leave the video out")
    say_united({frame: each.objects for frame, each in annotations.items()}, sequence.text)
    return image_record(
        sequence.video_id,
        paths,
        size,
        dict(sorted(annotations.items())),
        sequence.text,
        object_ids=tuple(sorted(names)),
        object_names=names,
    )


def _lines(path: str) -> list[tuple[str, list[int], str]]:
    """Return the place of each line, its five numbers and its RLE."""
    found = []
    for place, line in text_lines(path, "restore the file"):
        where, match = f"{path}: line {place}", _LINE.fullmatch(line)
        if match:
            found.append((where, [int(each) for each in match.groups()[:5]], match[6]))
        else:
            boxes = " Commas are of MOTChallenge, which has boxes: get its MOTS set" if "," in line else ""
            raise DataError(
                f"{where} is {line[:60]!r}; a line of MOTS holds six fields with a space between them: "
                f"frame, id, class, height, width and RLE.{boxes}"
            )
    return found


def _find(path: str) -> list[_Sequence]:
    found = [
        _Sequence(os.path.basename(folder), os.path.join(folder, _TEXT), os.path.join(folder, _IMAGES))
        for folder in and_inner(path)
        if os.path.isfile(os.path.join(folder, _TEXT)) and os.path.isdir(os.path.join(folder, _IMAGES))
    ]
    texts = os.path.join(path, _TEXTS)
    roots = [os.path.join(path, name) for name in FRAME_FOLDERS if os.path.isdir(os.path.join(path, name))]
    for name in files_in(texts, (".txt",)) if roots else []:
        found.append(_Sequence(stem(name), os.path.join(texts, name), os.path.join(roots[0], stem(name))))
    return found


def _recognise(path: str) -> Found | None:
    sequences = _find(path)
    if not sequences:
        return None
    why = f"{some(os.path.relpath(each.text, path) for each in sequences)} is beside frames"
    return Found("MOTS text", why, partial(load_mots_text, sequences))


LAYOUT = Layout("MOTS text: <sequence>/gt/gt.txt with <sequence>/img1/, or instances_txt/", _recognise)
