"""Read prompts from a JSON: objects per video, and prompted frames per object."""

from __future__ import annotations

import os
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from sam2vt.core.data.formats.paths import is_inside
from sam2vt.core.data.json_files import shown
from sam2vt.core.data.masks.labels import read_labels
from sam2vt.core.data.masks.object_images import only_object
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.prediction.entries import (
    Check,
    Faults,
    at,
    listed,
    name,
    numbers,
    read_by_video,
    rle,
    whole,
)
from sam2vt.core.prediction.prompts import GivenObject, Prompts, fit_objects, give_object, object_label
from sam2vt.core.prediction.types import Click, ObjectPrompt

MOST_ID = 65535  # what a 16 bit label image holds


def read_prompts(path: str) -> Prompts:
    """Return the prompts of a JSON of version 1, checked as far as possible without the videos.

    Raises DataError with all faults; each names video, object, frame and field.
    """
    path = os.fspath(path)
    faults, videos = read_by_video(path, "objects")
    table = _prompt_fields(os.path.dirname(os.path.abspath(path)))
    objects = {
        video: _read_objects(faults, where, entries, table) for video, (where, entries) in videos.items()
    }
    faults.check()
    fits = {video: partial(fit_objects, path, each) for video, each in objects.items()}
    return Prompts(path, fits, content=repr(objects))


def _prompt_fields(folder: str) -> dict[str, Check]:
    return {
        "frame": whole(0),
        "points": _points,
        "labels": _labels,
        "box": numbers(4, "x0, y0, x1, y1"),
        "mask": partial(_read_mask, folder),
        "correct": _flag,
    }


_OBJECT: dict[str, Check] = {
    "id": whole(1, MOST_ID),
    "name": name,
    "prompts": listed(),
    "remove_at": whole(1),
}


def _read_objects(
    faults: Faults, where: str, entries: list[Any], table: dict[str, Check]
) -> tuple[GivenObject, ...]:
    """Return the objects of one video; those without an id get the lowest free ones, in order."""
    given = []
    places = [at(where, _place(entry, i, "objects", "id", "name")) for i, entry in enumerate(entries)]
    fields = [faults.fields(entry, place, _OBJECT, ("prompts",)) for place, entry in zip(places, entries)]
    _check_identity(faults, places, fields)
    taken = {each.get("id") for each in fields}
    free = (number for number in count(1) if number not in taken)
    for each in fields:
        object_id = each["id"] if "id" in each else next(free)
        label = at(where, object_label(object_id, each.get("name", "")))
        before = faults.count
        prompts = [
            _read_prompt(faults, at(label, _place(entry, i, "prompts", "frame")), entry, object_id, table)
            for i, entry in enumerate(each.get("prompts", []))
        ]
        # Of what is left of a faulty prompt, the rules would say what is not so.
        if faults.count == before:
            whole_ones = filter(None, prompts)
            remove_at = each.get("remove_at")
            given.append(give_object(faults, label, object_id, each.get("name", ""), whole_ones, remove_at))
    return tuple(given)


def _check_identity(faults: Faults, places: list[str], fields: list[dict[str, Any]]) -> None:
    """Add a fault for objects that have neither id nor name, and for two that are the same."""
    seen: set[tuple[str, Any]] = set()
    told = faults.count
    for place, each in zip(places, fields):
        # Names may be classes, which several objects share, where ids tell these apart.
        key = next(((field, each[field]) for field in ("id", "name") if field in each), None)
        if key is None:
            if not told:  # else it may be there and wrong, which has been said
                faults.add(place, f"has neither id (1 to {MOST_ID}) nor name; give one of them")
        elif key in seen:
            field, value = key
            faults.add(
                place, f"is there twice, with the {field} {value}; put all its prompts into one object"
            )
        else:
            seen.add(key)


def _read_prompt(
    faults: Faults, where: str, entry: Any, object_id: int, table: dict[str, Check]
) -> ObjectPrompt | None:
    before = faults.count
    fields = faults.fields(entry, where, table, ("frame",))
    points, labels = fields.get("points", ()), fields.get("labels")
    if labels is not None and len(labels) != len(points) and faults.count == before:
        faults.add(
            at(where, "labels"),
            f"are {len(labels)} for {len(points)} points; allowed is one per point, or none: all positive",
        )
    if faults.count > before:
        return None
    signs = labels or [1] * len(points)
    clicks = tuple(Click(x, y, bool(sign)) for (x, y), sign in zip(points, signs))
    corrects = fields.get("correct", False)
    return ObjectPrompt(object_id, fields["frame"], clicks, fields.get("box"), fields.get("mask"), corrects)


def _place(entry: Any, number: int, inner: str, *keys: str) -> str:
    """Return the words for an entry of a list: what its own key says, else its number in the list."""
    for key in keys if isinstance(entry, dict) else ():
        if type(entry.get(key)) in (int, str):
            words = {"frame": "frame", "id": "object", "name": "object"}
            return f"{words[key]} {shown(entry[key])[1:-1]}"
    return f"{inner}[{number}]"


def _points(value: Any) -> list[tuple[float, ...]]:
    return [numbers(2, "x, y")(each) for each in listed()(value)]


def _labels(value: Any) -> list[int]:
    if not isinstance(value, list) or any(type(each) is not int or each not in (0, 1) for each in value):
        raise ValueError(f"is {shown(value)}; allowed is a list of 1 (on the object) and 0 (beside it)")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"is {shown(value)}; allowed is true or false")
    return value


def _read_mask(folder: str, value: Any) -> np.ndarray:
    """Return the mask of an RLE, or of an image in the JSON's folder: all pixels but 0 and void."""
    if not isinstance(value, str):
        height, width = rle(value)["size"]
        return segmentation_to_mask(value, height, width, "")
    path = os.path.join(folder, value)
    if not value or not value.isprintable() or not is_inside(path, folder):
        raise ValueError(
            f"is {shown(value)}; allowed is an image inside {folder}, by its path from there, or an RLE"
        )
    return only_object(read_labels(path), path, "a mask")
