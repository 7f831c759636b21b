"""What a layout on disk is to `load_records`: how it is recognised, and how its records are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

from sam2vt.core.types import VideoRecord


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a dataset beside its path; a layout takes some of it."""

    identity: str = "error"  # annotations without track ids: error, category or iou
    image_root: str | None = None  # where file names in a JSON or XML start; None: its own folder
    allow_absolute_paths: bool = False  # files outside the dataset's folder and image_root
    colours: dict[str, tuple[int, int, int]] | None = None  # of colour masks: class -> RGB

    def given(self) -> dict[str, object]:
        """What differs from the default, by its name in a configuration."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(ReadOptions, name)}


class Found(NamedTuple):
    """A layout that a path was recognised as."""

    what: str  # such as "COCO video JSON"
    why: str  # what tells, for a sentence after "because"
    load: Callable[[ReadOptions], list[VideoRecord]]
    takes: tuple[str, ...] = ()  # the fields of ReadOptions that mean something here


class Layout(NamedTuple):
    """A way in which datasets lie on disk."""

    looked_for: str  # what a user is told that there might have been
    recognise: Callable[[str], Found | None]  # of an absolute path that exists; reads as little as it can
