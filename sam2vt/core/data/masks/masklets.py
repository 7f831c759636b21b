"""The kind `MaskletFrame`: SA-V's JSON files of a video, an RLE per object and annotated frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sam2vt.core.data.json_files import load_json, shown
from sam2vt.core.data.masks.kind import Part, union_parts
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.types import MaskletFrame, VideoRecord
from sam2vt.errors import DataError

_MOST = 2**53  # of a masklet's number, a count or a size; a video's files count on from each other's numbers


@dataclass(frozen=True)
class Masklets:
    """The content of one file. F annotated frames, M masklets."""

    path: str
    frames: list[list[dict[str, Any]]]  # [F][M], an RLE dict each
    ids: list[int]  # [M], as the file has them
    names: list[Any]  # [M], as `sam2vt convert` writes them; None for no name
    num_video_frames: int
    height: int
    width: int


def load(record: VideoRecord, frame_index: int, annotation: MaskletFrame) -> list[Part]:
    """Return a part per object of all files."""
    files = [read_masklets(path) for path in annotation.paths]
    found = ((file.path, [rle]) for file in files for rle in _rles_of(file, annotation.place))
    return union_parts(record, frame_index, dict(zip(number_objects(files), found)), segmentation_to_mask)


def _rles_of(file: Masklets, place: int) -> list[dict[str, Any]]:
    if place >= len(file.frames):
        raise DataError(
            f"{file.path}: annotates {len(file.frames)} frames, not the one of place {place}: the file has "
            "changed; read the dataset anew",
            file=file.path,
        )
    return file.frames[place]


def number_objects(files: Sequence[Masklets]) -> list[int]:
    """Return the object of each masklet in a video's files: its id plus one, counted on in further files."""
    numbers: list[int] = []
    for file in files:
        last = max(numbers, default=0)
        numbers += [last + 1 + each for each in file.ids]
    return numbers


def is_masklet_file(content: Any) -> bool:
    return isinstance(content, dict) and "masklet" in content


def read_masklets(path: str) -> Masklets:
    """Raise DataError naming the file and field, or the frame whose masklets are incomplete."""
    content = load_json(path)
    if not is_masklet_file(content):
        raise DataError(f"{path}: is no SA-V masklet file: it has no field masklet")
    frames, ids = content["masklet"], content.get("masklet_id")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{path}: masklet is {shown(frames)}; it must list the masks of each annotated frame")
    if not isinstance(ids, list) or not all(map(_is_id, ids)) or len(set(ids)) < len(ids):
        raise DataError(
            f"{path}: masklet_id is {shown(ids)}; it must list the different numbers of the masklets, each "
            f"from 0 to {_MOST}: number them from 0 on"
        )
    # All frames at once: else a clip fails long after the dataset was accepted.
    for place, masks in enumerate(frames):
        if not isinstance(masks, list) or len(masks) != len(ids):
            got = f"{len(masks)} masks" if isinstance(masks, list) else shown(masks)
            raise DataError(
                f"{path}: masklet[{place}] has {got}, but masklet_id names {len(ids)}; every annotated frame "
                "needs a mask a masklet, an empty one where it is not visible"
            )
        wrong = next((i for i, mask in enumerate(masks) if not isinstance(mask, dict)), None)
        if wrong is not None:
            raise DataError(
                f"{path}: masklet[{place}], masklet {ids[wrong]} is {shown(masks[wrong])}; allowed is an RLE "
                "with size and counts"
            )
    stated = (_whole(content, f"video_{name}", path) for name in ("frame_count", "height", "width"))
    names = content.get("masklet_name")
    names = names if isinstance(names, list) and len(names) == len(ids) else [None] * len(ids)
    return Masklets(path, frames, ids, names, *stated)


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _whole(content: dict[str, Any], name: str, path: str) -> int:
    """Return a count, which SA-V writes as 483.0."""
    value: Any = content.get(name)
    if type(value) not in (int, float) or not 1 <= value <= _MOST or value != int(value):
        raise DataError(
            f"{path}: {name} is {shown(value)}; write the video's, a whole number from 1 to {_MOST}"
        )
    return int(value)
