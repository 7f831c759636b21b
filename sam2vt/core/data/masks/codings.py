"""Decode label images whose pixel values are not object ids: MOTS, colours of classes, cell tracking."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sam2vt.config import BY_COLOUR
from sam2vt.core.data.frames.images import open_image, read_pixels
from sam2vt.core.data.masks.labels import VOID, read_indices, read_labels
from sam2vt.core.data.masks.palettes import colour_of, ids_by_colour
from sam2vt.core.types import LabelImage, VideoRecord
from sam2vt.errors import ConfigError, DataError

MOTS_CLASSES = {1: "car", 2: "pedestrian"}  # where no labels.txt names others
MOTS_IGNORED = 10
_BACKGROUND, _VOID = "background", "void"  # names in a colour table that are no objects
_TABLE = "dataset.colours (--colours)"

Colours = dict[str, tuple[int, int, int]] | str  # class -> RGB, or BY_COLOUR


class Decoded(NamedTuple):
    """The content of a coded image; arrays are bool [height, width]."""

    masks: dict[int, np.ndarray]  # object id -> its pixels
    void: np.ndarray
    known: frozenset[int] | None = None  # see `known_objects`


def decode_labels(record: VideoRecord, annotation: LabelImage) -> Decoded:
    """Raise DataError naming the file, and the value or place that its coding does not allow."""
    return _CODINGS[annotation.coding](record, annotation)


def class_colours(colours: dict[str, tuple[int, int, int]]) -> dict[int, str]:
    """Return object id -> class, in the table's order from 1; `background` and `void` are not objects."""
    names = [name for name in colours if name not in (_BACKGROUND, _VOID)]
    return dict(enumerate(names, start=1))


def check_colours(table: Colours | None) -> None:
    """Raise ConfigError for a table of colours that does not distinguish classes."""
    if table is None or table == BY_COLOUR:
        return
    if isinstance(table, str):
        raise ConfigError(f"{_TABLE}: {table}: must be a table of colours, or {BY_COLOUR}")
    for name, colour in table.items():
        if len(colour) != 3 or any(type(each) is not int or not 0 <= each <= 255 for each in colour):
            raise ConfigError(f"{_TABLE}: {name} is {colour}; a colour is three numbers from 0 to 255")
    if len({tuple(colour) for colour in table.values()}) < len(table):
        raise ConfigError(f"{_TABLE}: two classes have the same colour; give each class its own")
    if not class_colours(table):
        raise ConfigError(f"{_TABLE}: no class is in it besides background and void; add the classes")


def _mots(record: VideoRecord, annotation: LabelImage) -> Decoded:
    """Decode MOTS: class * 1000 + instance is the object's id; class 10 is void, unless it has a name."""
    labels = read_labels(annotation.path)
    # 8 bits cannot hold class * 1000: the ids were cut off when the mask was saved.
    if labels.pixels.dtype == np.uint8:
        raise DataError(
            f"{annotation.path}: the mask has 8 bits a pixel; MOTS masks are 16 bit gray PNGs whose values "
            "are class * 1000 + instance: export the masks as 16 bit PNG"
        )
    classes = record.classes or {}
    void = np.zeros(labels.pixels.shape, dtype=bool)
    masks = {}
    for value in labels.values:
        number = value // 1000
        if number == MOTS_IGNORED and number not in classes:
            void |= labels.pixels == value
        elif number in classes:
            masks[value] = labels.pixels == value
        else:
            named = ", ".join(f"{key} {name}" for key, name in classes.items())
            raise DataError(
                f"{annotation.path}: the value {value} is of class {number}, which is not named; classes "
                f"are {named}, and {MOTS_IGNORED} is void. Values are class * 1000 + instance: correct the "
                "mask, or name the class in instances/labels.txt, one class per line"
            )
    return Decoded(masks, void)


def _colours(record: VideoRecord, annotation: LabelImage) -> Decoded:
    """Decode colours, one object per class. Black that the table does not name is background."""
    table = record.colours or {}
    pixels = _read_colours(annotation.path).astype(np.uint32)
    # One number per pixel, so that a colour is one comparison.
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    by_name = {name: red << 16 | green << 8 | blue for name, (red, green, blue) in table.items()}
    allowed = np.array([0, *by_name.values()], dtype=np.uint32)
    strange = ~np.isin(packed, allowed)
    if strange.any():
        y, x = map(int, np.argwhere(strange)[0])
        red, green, blue = map(int, pixels[y, x])
        raise DataError(
            f"{annotation.path}: the pixel x={x}, y={y} has the colour ({red}, {green}, {blue}), which "
            f"the table of colours does not name, as {int(strange.sum())} pixels have not; add its class to "
            f"{_TABLE}, as void if it counts nowhere, and save masks without smoothing"
        )
    masks = {key: packed == by_name[name] for key, name in class_colours(table).items()}
    void = packed == by_name[_VOID] if _VOID in by_name else np.zeros(packed.shape, dtype=bool)
    return Decoded(masks, void)


def _by_colour(record: VideoRecord, annotation: LabelImage) -> Decoded:
    """Decode a palette image by its colours: whichever index has it, a colour is one object of the video.

    Ids are those of `ids_by_colour`; 255 is void, as in DAVIS.
    """
    labels = read_indices(annotation.path)
    if not labels.palette:
        raise DataError(
            f"{annotation.path}: the mask has no palette of colours; with {_TABLE}={BY_COLOUR} all masks of "
            "a video need one: leave it out where pixels are ids, or save palette images"
        )
    ids = ids_by_colour(record, annotation.path)
    owners = {value: ids.get(colour_of(labels.palette, value), 0) for value in (0, *labels.values)}
    masks = {
        owner: np.isin(labels.pixels, [value for value, each in owners.items() if each == owner])
        for owner in sorted(set(owners.values()) - {0})
    }
    return Decoded(masks, masks.pop(VOID, np.zeros(labels.pixels.shape, dtype=bool)))


def _read_colours(path: str) -> np.ndarray:
    """Return the colours of a mask, uint8 [height, width, 3]."""
    with open_image(path, "mask") as image:
        if image.mode not in ("RGB", "P", "RGBA"):
            raise DataError(
                f"{path}: the mask is a {image.mode} image; with a table of colours allowed are RGB and "
                f"palette images: save the colours of the classes, or leave {_TABLE} out if pixels are ids"
            )
        # First: a palette is known when the file has been read.
        read_pixels(image, path, "mask")
        pixels = np.array(image.convert("RGBA" if image.mode == "RGBA" else "RGB"))
    if pixels.shape[2] == 4 and (pixels[..., 3] != 255).any():
        raise DataError(
            f"{path}: the mask has transparent pixels, which have no colour; save it as RGB without alpha"
        )
    return pixels[..., :3]


def _ctc(record: VideoRecord, annotation: LabelImage) -> Decoded:
    """Decode cell tracking: a segment is the track whose marker it covers by more than half.

    Of several such tracks, the one with the most pixels in it, then the lowest number. Tracks with a marker
    and no segment are not known on this frame; segments of no track are void.
    """
    assert annotation.markers is not None
    segments, markers = read_labels(annotation.path).pixels, read_labels(annotation.markers)
    if markers.pixels.shape != segments.shape:
        raise DataError(
            f"{annotation.markers}: the markers are {markers.pixels.shape[1]}x{markers.pixels.shape[0]} "
            f"(width x height), the mask {annotation.path} is {segments.shape[1]}x{segments.shape[0]}; both "
            "must have one size: restore the original files"
        )
    strange = sorted(set(markers.values) - set(record.object_ids or ()))
    if strange:
        raise DataError(
            f"{annotation.markers}: the marker {strange[0]} has no line in man_track.txt; add its line "
            "(track, first frame, last frame, parent) or remove the marker"
        )
    owners: dict[int, tuple[int, int]] = {}  # segment -> (pixels, track)
    for track in markers.values:
        under = segments[markers.pixels == track]
        values, counts = np.unique(under, return_counts=True)
        segment, count = int(values[counts.argmax()]), int(counts.max())
        # More than half, as the challenge's own evaluation matches segments.
        if segment and 2 * count > under.size and count > owners.get(segment, (0, 0))[0]:
            owners[segment] = count, track
    masks = {track: segments == segment for segment, (_, track) in owners.items()}
    void = (segments > 0) & ~np.isin(segments, list(owners))
    known = frozenset(record.object_ids or ()) - (frozenset(markers.values) - masks.keys())
    return Decoded(masks, void, known)


_CODINGS: dict[str, Callable[[VideoRecord, LabelImage], Decoded]] = {
    "mots": _mots,
    "colours": _colours,
    "ctc": _ctc,
    BY_COLOUR: _by_colour,
}
