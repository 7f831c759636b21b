"""Check the colours of palette images: an index has one colour in a video, and black is background."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache

from PIL import Image

from sam2vt.config import BY_COLOUR
from sam2vt.core.data.frames.images import open_image
from sam2vt.core.types import LabelImage, VideoRecord
from sam2vt.errors import DataError

_BLACK = b"\0\0\0"
_VOID = 255  # an index
_WAY_OUT = (
    f"read the masks by colour with dataset.colours={BY_COLOUR} (--colours {BY_COLOUR}; of a validation set: "
    f"valdataset.colours), or save them with one palette for the video whose index 0 is the ground"
)


def palette_of(image: Image.Image) -> bytes:
    """Return three bytes per index, RGB; nothing for a gray ramp, which adds nothing to the index."""
    assert image.palette is not None
    mode, data = image.palette.getdata()
    # A PNG's palette is known by its header; in other formats its bytes have another order.
    if mode != "RGB" or image.format != "PNG":
        data = bytes(image.getpalette("RGB") or ())
    return b"" if _is_gray_ramp(bytes(data)) else bytes(data)


@lru_cache(maxsize=256)
def _is_gray_ramp(palette: bytes) -> bool:
    return all(palette[3 * i : 3 * i + 3] == bytes([i] * 3) for i in range(len(palette) // 3))


def colour_of(palette: bytes, index: int) -> bytes:
    """Return the colour of an index, three bytes; empty if the palette ends before it."""
    return palette[3 * index : 3 * index + 3]


def check_ground(path: str, palette: bytes, indices: Iterable[int]) -> None:
    """Raise DataError if index 0 has a colour, even if unused, and another index of the image is black."""
    ground = colour_of(palette, 0)
    if ground in (b"", _BLACK):
        return
    black = next((each for each in indices if colour_of(palette, each) == _BLACK), None)
    if black is not None:
        raise DataError(
            f"{path}: index 0, the ground, is {_shown(ground)}, while index {black} is {_shown(_BLACK)}, as "
            f"the ground is in most masks: what is ground is not clear; {_WAY_OUT}"
        )


def check_palettes(record: VideoRecord, frame: int, palette: bytes, indices: Iterable[int]) -> None:
    """Raise DataError if one of the frame's indices has another colour on another annotated frame.

    This costs almost nothing if the palette is that of the video's first mask: a frame with another one
    finds the fault. It reads palettes from the headers of all masks, and pixels only if a colour differs.
    """
    first = next(iter(record.annotations.values()))
    if not palette or (isinstance(first, LabelImage) and _palette_in(first.path) == palette):
        return
    own = {each: colour for each in indices if (colour := colour_of(palette, each))}
    (own_path,) = record.annotations[frame].files()
    for _, path in _label_images(record):
        other = _palette_in(path)
        differing = [each for each, colour in own.items() if colour_of(other, each) not in (b"", colour)]
        # An index that one of the two masks does not use may have any colour there.
        if differing and set(differing).intersection(_indices_in(path), _indices_in(own_path)):
            raise _first_change(record)


def _first_change(record: VideoRecord) -> DataError:
    """Return one error for all frames that are part of a change, so that it is told once."""
    seen: dict[int, tuple[bytes, int]] = {}
    for number, path in _label_images(record):
        palette = _palette_in(path)
        for index in _indices_in(path) if palette else ():
            own = colour_of(palette, index)
            colour, before = seen.setdefault(index, (own, number)) if own else (own, number)
            if colour != own:
                return DataError(
                    f"{path}: index {index} is {_shown(own)} on frame {number}, but "
                    f"{_shown(colour)} on frame {before} (video {record.video_id}): a tool has rewritten the "
                    f"palette, so an index is not an object; {_WAY_OUT}",
                    video=record.video_id,
                    frame=number,
                    file=path,
                    object=index,
                )
    raise AssertionError("an index of another colour was found before")


def _label_images(record: VideoRecord) -> Iterator[tuple[int, str]]:
    """Yield the usable annotated frames that have a label image of ids, with its path."""
    for number in record.annotated_frames:
        each = record.annotations[number]
        if isinstance(each, LabelImage) and each.coding == "ids":
            yield number, each.path


def ids_by_colour(record: VideoRecord, path: str) -> dict[bytes, int]:
    """Return colour -> object id from the palettes of the video's masks up to this one; 0 is background.

    Colours count from 1 in the order of the first palette, then of further ones, so that a palette of DAVIS
    gives its own indices; 255 is only given to index 255 of a palette. Background is black, or the colour of
    index 0 if the first palette has no black.
    """
    palettes: dict[bytes, None] = {}
    for _, annotation in sorted(record.annotations.items()):
        if isinstance(annotation, LabelImage):
            palettes[_palette_in(annotation.path)] = None
            if annotation.path == path:
                break
    return _number(tuple(filter(None, palettes)))


@lru_cache(maxsize=1024)
def _number(palettes: tuple[bytes, ...]) -> dict[bytes, int]:
    entries = [(colour_of(each, index), index) for each in palettes for index in range(len(each) // 3)]
    first = [colour for colour, _ in entries[: len(palettes[0]) // 3]] if palettes else []
    ground = _BLACK if _BLACK in first or not first else first[0]
    ids, number = {ground: 0}, 0
    for colour, index in entries:
        if colour not in ids:
            number += 1
            # Void in a palette such as that of DAVIS, but not a number that was only counted to.
            number += number == _VOID != index
            ids[colour] = number
    return ids


def _palette_in(path: str) -> bytes:
    """Return the palette of a mask; empty if it has none, or cannot be read, which is told elsewhere."""
    return _read_palette(path, *_state(path))


def _indices_in(path: str) -> tuple[int, ...]:
    return _read_used(path, *_state(path))


def _state(path: str) -> tuple[int, int]:
    """Return what changes when a file is written anew: a key of caches."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_mtime_ns, status.st_size
    return 0, 0


# Each frame asks for the first mask's; few palettes differ, so that most entries share their bytes.
@lru_cache(maxsize=4096)
def _read_palette(path: str, *_: int) -> bytes:
    with suppress(DataError), open_image(path, "mask") as image:
        return _shared(palette_of(image)) if image.mode == "P" else b""
    return b""


@lru_cache(maxsize=256)
def _shared(palette: bytes) -> bytes:
    return palette


@lru_cache(maxsize=4096)
def _read_used(path: str, *_: int) -> tuple[int, ...]:
    with suppress(DataError, OSError, ValueError, SyntaxError), open_image(path, "mask") as image:
        return tuple(index for index, count in enumerate(image.histogram()) if count)
    return ()


def _shown(colour: bytes) -> str:
    return str(tuple(colour))
