"""Layouts of datasets on disk: their table, and `load_records`, which recognises a layout and reads it."""

from __future__ import annotations

import logging
import os

from sam2vt.config import DatasetConfig
from sam2vt.core.data.formats import (
    beside,
    burst,
    coco,
    coco_images,
    ctc,
    cvat,
    cvat_masks,
    labelme,
    mots,
    mots_text,
    own_folders,
    packed,
    sav,
    supervisely,
    tree,
    video_files,
    youtube_vis,
)
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import check_text, names_in, some, subfolders
from sam2vt.core.data.formats.nearest import nearest
from sam2vt.core.data.formats.paths import check_readable
from sam2vt.core.data.masks.codings import Colours, check_colours
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError
from sam2vt.settings import require

log = logging.getLogger(__name__)

# A dataset_type and the layouts that it stands for; "auto" stands for all, in this order. Packed shards,
# whatever they were made from, are read with any of them.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "mots": (mots.LAYOUT, mots_text.LAYOUT),
    "ctc": (ctc.LAYOUT,),
    "cvat": (cvat.LAYOUT, cvat_masks.LAYOUT),
    "labelme": (labelme.LAYOUT,),
    "supervisely": (supervisely.LAYOUT,),
    "video": (
        *(tree.LAYOUT, tree.SINGLE_CLIP, sav.LAYOUT, video_files.LAYOUT),
        *(own_folders.LAYOUT, beside.LAYOUT),
    ),
    "coco": (coco.LAYOUT, youtube_vis.LAYOUT, burst.LAYOUT, coco_images.LAYOUT),
}


def load_records(
    dataset_type: str,
    data_path: str | os.PathLike[str],
    *,
    identity: str = "error",
    image_root: str | None = None,
    allow_absolute_paths: bool = False,
    colours: Colours | None = None,
    faults: list[DataError] | None = None,
    notes: list[str] | None = None,
) -> list[VideoRecord]:
    """Return every video of a dataset, sorted by video_id; paths are absolute.

    `dataset_type` is a key of `LAYOUTS`, or "auto", which logs the layout that it recognised. The keywords
    are those of `ReadOptions`. With `faults`, unusable videos are left out and listed there. With `notes`,
    data that may be unintended is listed there instead of logged. Only identity="iou" decodes masks. Raises
    ConfigError for values that are not allowed, DataError for data that cannot be used.
    """
    options = ReadOptions(identity, image_root, allow_absolute_paths, colours, faults, notes)
    require(DatasetConfig, "dataset_type", dataset_type)
    require(DatasetConfig, "identity", identity)
    check_colours(colours)
    check_text(os.fspath(image_root or ""))
    if not os.fspath(data_path):
        raise DataError("data_path is empty: set it to the dataset's folder, video file or JSON")
    path = _existing(os.fspath(data_path))
    found = recognise(dataset_type, path)
    if found is None:
        raise _not_recognised(path, dataset_type)
    # An option that a layout does not read would be silently without effect.
    for name, value in options.given().items():
        if name not in found.takes:
            raise ConfigError(
                f"{name}={value} means nothing to {found.what}, which data_path {path} was recognised as, "
                f"because {found.why}; leave out dataset.{name} (--{name.replace('_', '-')})"
            )
    records = _unique(path, found.load(options), options)
    if not records and not faults:
        raise DataError(f"{path}: there is no video in it")
    _say(path, found, records)
    # Splits, seeds and fingerprints depend on the order; listings of file systems differ.
    return sorted(records, key=lambda record: record.video_id)


def _existing(data_path: str) -> str:
    """Return the absolute path, or the URI. Raises DataError if nothing is there."""
    if "://" in data_path:
        return data_path
    path = check_text(os.path.abspath(os.path.expanduser(data_path)))
    if not os.path.exists(path):
        raise DataError(f"data_path {path} does not exist; {_nearest(path)}")
    check_readable(path)
    return path


def _layouts(dataset_type: str) -> list[Layout]:
    kinds = LAYOUTS.values() if dataset_type == "auto" else [LAYOUTS[dataset_type]]
    return [layout for kind in kinds for layout in kind]


def recognise(dataset_type: str, path: str) -> Found | None:
    """Return the layout of an absolute path or a URI; None if it has none of this type.

    Raises DataError if it has several, or one that cannot be read as it is.
    """
    is_uri = "://" in path
    layouts = [packed.LAYOUT, *([] if is_uri else _layouts(dataset_type))]  # nothing else is read from there
    found = _first(layouts, path)
    names = [] if found or is_uri else subfolders(path)
    # Archives often unpack to a folder in a folder; a part of a layout says by itself what is missing.
    if len(names) == 1 and names[0] not in (tree.FRAMES, tree.MASKS):
        found = _first(layouts, os.path.join(path, names[0]))
        found = found and found._replace(why=f"in its only folder, {names[0]}, {found.why}")
    return found


def _first(layouts: list[Layout], path: str) -> Found | None:
    return next((found for layout in layouts if (found := layout.recognise(path)) is not None), None)


def _unique(path: str, records: list[VideoRecord], options: ReadOptions) -> list[VideoRecord]:
    """Return the records without those that have the id of another, which is a fault."""
    kept: dict[str, VideoRecord] = {}
    for record in records:
        first = kept.setdefault(record.video_id, record)
        if first is not record:
            here, there = (each.video_path or each.source for each in (record, first))
            options.fault(
                f"{path}: two videos have the id {record.video_id}: {there} and {here}; rename one",
                video=record.video_id,
                file=here,
            )
    return list(kept.values())


def _say(path: str, found: Found, records: list[VideoRecord]) -> None:
    frames, annotated = (
        sum(each.num_frames for each in records),
        sum(len(each.annotations) for each in records),
    )
    numbers = f"{len(records)} videos, {frames} frames, {annotated} of them annotated"
    log.info("%s: recognised as %s, because %s: %s", path, found.what, found.why, numbers)


def _not_recognised(path: str, dataset_type: str) -> DataError:
    if "://" in path:
        raise DataError(
            f"data_path {path} holds no shards of `sam2vt pack`, and other datasets are not read from a URI: "
            "pack the dataset there, or copy it to this machine"
        )
    holds = f"holds {some(names_in(path), 8) or 'nothing'}" if os.path.isdir(path) else "is a file"
    hint = nearest(path, lambda each: _first([packed.LAYOUT, *_layouts("auto")], each))
    return DataError(
        f"data_path {path} is no dataset of type {dataset_type}: it {holds}. {hint}. All layouts are in "
        "docs/data.md"
    )


def _nearest(path: str) -> str:
    """Return the closest folder that does exist, and what is in it."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return f"{parent} holds {some(names_in(parent), 8) or 'nothing'}"
