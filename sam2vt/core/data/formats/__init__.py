"""Datasets on disk as records: one file a layout, and `load_records`, which finds out which it is."""

from __future__ import annotations

import logging
import os

from sam2vt.configuration.values import DATASET_TYPES, IDENTITIES
from sam2vt.core.data.formats.coco import load_coco
from sam2vt.core.data.formats.coco_json import find_json
from sam2vt.core.data.formats.listing import some
from sam2vt.core.data.formats.single_clip import is_single_clip, load_single_clip
from sam2vt.core.data.formats.tree import FRAMES, MASKS, find_tree, load_tree
from sam2vt.core.data.formats.video_files import find_mask_folders, find_video_files, load_video_files
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

log = logging.getLogger(__name__)

_LOOKED_FOR_VIDEO = (
    "JPEGImages/<video>/*.jpg with Annotations/<video>/*.png (also under train/ or valid/, with a level such "
    "as 480p, a subfolder an object, or <video>.mp4 in JPEGImages/)",
    "a single clip: JPEGImages/*.jpg with Annotations/*.png",
    "video files (mp4, mov, mkv, webm, avi, ...) beside folders of masks of their names",
)
_LOOKED_FOR_COCO = ("a COCO video JSON, or one JSON in the folder or its annotations/",)


def load_records(
    dataset_type: str,
    data_path: str | os.PathLike[str],
    *,
    identity: str = "error",
    image_root: str | None = None,
) -> list[VideoRecord]:
    """Every video of a dataset, sorted by video_id; paths are absolute.

    `dataset_type` is "video" (folders and video files), "coco", or "auto", which logs what it recognised.
    `identity` and `image_root` are for COCO. No mask is decoded, except by identity="iou". Raises
    ConfigError for values that are not allowed, DataError for data that cannot be used.
    """
    if dataset_type not in DATASET_TYPES:
        raise ConfigError(f"dataset_type={dataset_type!r}: allowed are {', '.join(DATASET_TYPES)}")
    if identity not in IDENTITIES:
        raise ConfigError(f"identity={identity!r}: allowed are {', '.join(IDENTITIES)}")
    if not os.fspath(data_path):
        raise DataError("data_path is empty: set it to the dataset's folder, video file or JSON")
    path = os.path.abspath(os.path.expanduser(os.fspath(data_path)))
    if not os.path.exists(path):
        raise DataError(f"data_path {path} does not exist; {_nearest(path)}")
    records = None
    if dataset_type in ("auto", "video"):
        records = _load_video(path, dataset_type)
    if records is not None and (identity != "error" or image_root):
        given = f"identity={identity}" if identity != "error" else f"image_root={image_root}"
        raise ConfigError(f"{given} is for COCO JSON, but data_path {path} holds folders or video files")
    if records is None and dataset_type in ("auto", "coco"):
        records = _load_coco(path, identity, image_root)
    if records is None:
        raise _not_recognised(path, dataset_type)
    if not records:
        raise DataError(f"{path}: there is no video in it")
    return sorted(records, key=lambda record: record.video_id)


def _load_video(path: str, dataset_type: str) -> list[VideoRecord] | None:
    """None if the path is no layout of folders or video files."""
    tree = find_tree(path)
    if tree and is_single_clip(tree[0]):
        return _said(path, "a single clip", f"images lie in {tree[0]} itself", load_single_clip(*tree))
    if tree:
        reason = f"{tree[0]} and {tree[1]} hold a folder a video"
        return _said(path, "a tree of frames and masks", reason, load_tree(*tree))
    videos = find_video_files(path)
    if videos and (dataset_type == "video" or find_mask_folders(path) or find_json(path) is None):
        reason = f"it has {some((os.path.basename(each) for each in videos), 3)}"
        return _said(path, "video files with folders of masks", reason, load_video_files(path, videos))
    return None


def _load_coco(path: str, identity: str, image_root: str | None) -> list[VideoRecord] | None:
    json_path = find_json(path)
    if json_path is None:
        return None
    records = load_coco(json_path, identity, image_root)
    return _said(
        path, "COCO video JSON", f"{os.path.basename(json_path)} has images and annotations", records
    )


def _said(path: str, what: str, why: str, records: list[VideoRecord]) -> list[VideoRecord]:
    num_frames = sum(record.num_frames for record in records)
    num_annotated = sum(len(record.annotations) for record in records)
    log.info(
        "%s: recognised as %s, because %s: %d videos, %d frames, %d of them annotated",
        path,
        what,
        why,
        len(records),
        num_frames,
        num_annotated,
    )
    return records


def _not_recognised(path: str, dataset_type: str) -> DataError:
    looked = (_LOOKED_FOR_VIDEO if dataset_type != "coco" else ()) + (
        _LOOKED_FOR_COCO if dataset_type != "video" else ()
    )
    holds = f"holds {some(sorted(os.listdir(path)), 8) or 'nothing'}" if os.path.isdir(path) else "is a file"
    lacks_masks = not os.path.isdir(os.path.join(path, MASKS))
    if dataset_type != "coco" and lacks_masks and os.path.isdir(os.path.join(path, FRAMES)):
        holds += f": frames in {FRAMES}, but no masks, since there is no {MASKS}"
    wanted = "; ".join(f"({number}) {each}" for number, each in enumerate(looked, start=1))
    return DataError(
        f"data_path {path} is no dataset of type {dataset_type}: it {holds}. Looked for {wanted}"
    )


def _nearest(path: str) -> str:
    """The closest folder that does exist, and what is in it."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return f"{parent} holds {some(sorted(os.listdir(parent)), 8) or 'nothing'}"
