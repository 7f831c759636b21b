"""What the fixtures' script and their tests share: where the fixtures lie, and how values are compared.

Written with a path below `HERE`, a fixture holds no path of any machine: it is read from a copy of the whole
folder by a process that has changed into that copy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parent / "984823e"
HERE = "/proc/self/cwd"
MOMENT = 1_700_000_000 * 10**9  # when all files were last changed: caches and checks tell files by it
RAY_FOLDER = "/srv/sam2vt"  # where the run on Ray lay; its workers have working directories of their own


def settle(folder: Path) -> None:
    """Give all files the time that they were written with."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(MOMENT, MOMENT))


def described(value: Any) -> Any:
    """A record, or a part of one, as JSON that tells all of its values apart but not its classes' names."""
    if is_dataclass(value) and not isinstance(value, type):
        return described(asdict(value))
    if isinstance(value, Mapping):
        return {"dict": [[described(key), described(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [described(each) for each in value]}
    if isinstance(value, list):
        return [described(each) for each in value]
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def digest(*arrays: Any) -> str:
    """SHA-256 of arrays: their types, shapes and bytes."""
    found = hashlib.sha256()
    for each in map(np.ascontiguousarray, arrays):
        found.update(f"{each.dtype} {each.shape}".encode())
        found.update(each.tobytes())
    return found.hexdigest()


def described_masks(record: Any, masks: Any, void: Any, known: Any) -> dict[str, Any]:
    """What the three readers of masks say of the annotated frames of a record."""
    return {
        str(frame): {
            "masks": {str(key): digest(mask) for key, mask in masks(record, frame).items()},
            "void": None if (found := void(record, frame)) is None else digest(found),
            "known": None if (ids := known(record, frame)) is None else sorted(ids),
        }
        for frame in record.annotated_frames
    }


def described_clip(clip: Mapping[str, Any]) -> dict[str, Any]:
    """What does not depend on the processor by its bytes, images by theirs and by 4 x 4 means a frame."""
    prompts = [
        [each["type"], each["object_index"], each["frame_index"]]
        + [digest(each[name]) for name in ("point_coords", "point_labels", "mask") if name in each]
        for each in clip["prompts"]
    ]
    images = np.asarray(clip["images"])
    frames, channels, height, width = images.shape
    cells = images.reshape(frames, channels, 4, height // 4, 4, width // 4).mean((3, 5))
    return {
        "video_id": clip["video_id"],
        "frames": list(clip["frame_indices"]),
        "objects": list(clip["object_ids"]),
        "masks": digest(clip["masks"], clip["valid_masks"]),
        "prompts": prompts,
        "images": digest(images),
        "cells": cells.round(2).tolist(),
    }


def statistics(state: Mapping[str, Any]) -> dict[str, list[float]]:
    """Of each tensor of weights or moments its mean and the sum of its absolute values."""
    return {
        name: [value.double().mean().item(), value.double().abs().sum().item()]
        for name, value in state.items()
    }
