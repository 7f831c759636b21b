"""Define the interface of layouts on disk: how they are recognised, and how their records are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

from sam2vt.core.data.formats.extent import outside_frames
from sam2vt.core.data.formats.listing import some
from sam2vt.core.data.masks.codings import Colours
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
_LEAST_ID, _MOST_ID = -(2**63), 2**63 - 1  # int64, which every file and tensor holds


class Outside(DataError):
    """Raised for a file that an annotation names and that is outside the dataset's folders."""


class NoFrames(DataError):
    """Raised if none of the files exists that an annotation names as a video's frames."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of the user about a dataset; a layout takes some of them."""

    identity: str = "error"  # annotations without track ids: error, category or iou
    image_root: str | None = None  # where file names in a JSON or XML start; None: its own folder
    allow_absolute_paths: bool = False  # files outside the dataset's folder and image_root
    colours: Colours | None = None  # of colour masks: class -> RGB, or "palette"
    # Where faults of single videos are collected, which are then left out; None: the first one is raised.
    faults: list[DataError] | None = field(default=None, compare=False)
    notes: list[str] | None = field(default=None, compare=False)  # where `note` puts them; None: the log

    @property
    def look(self) -> bool:
        """Whether a look into a few files is enough; to collect all faults, all files are read."""
        return self.faults is None

    def fault(self, error: DataError | str, **place: Any) -> None:
        """Collect a fault of some videos while others can be read, or raise it as DataError.

        `place` gives the place of a fault that is a text, by the keywords of DataError.
        """
        error = DataError(error, **place) if isinstance(error, str) else error
        if self.faults is None:
            raise error
        self.faults.append(error)

    def lonely(self, names: Sequence[str], where: str, what: str, remedy: str, **place: Any) -> None:
        """Collect, or raise, one fault of all videos that have no masks, or masks that have no video.

        It is about the video `names[0]`, if there is only one, and the file `where`, unless `place` says
        otherwise. Without names, nothing happens.
        """
        if names:
            text = f"{where}: {len(names)} {what}: {some(names)}; {remedy}"
            self.fault(text, **{"video": only(names), "file": where, **place})

    def note(self, text: str) -> None:
        """Collect, or log, a remark on data that can be used but may be unintended."""
        if self.notes is None:
            log.warning("%s", text)
        else:
            self.notes.append(text)

    def records(
        self,
        build: Callable[[Item], VideoRecord],
        items: Iterable[Item],
        place: Callable[[Item], Mapping[str, Any]],
    ) -> list[VideoRecord]:
        """Return the record of each item without a fault; `place` completes the place of a fault."""
        built = []
        outside: list[DataError] = []
        for item in items:
            try:
                record = build(item)
                if remark := outside_frames(record):
                    self.note(remark)
                built.append(record)
            except DataError as error:
                error.at(**place(item))
                if isinstance(error, Outside) and self.faults is not None:
                    outside.append(error)
                else:
                    self.fault(error)
        if len(outside) > 1:  # a dataset of links has one cause
            self.fault(f"{outside[0]} (so do files of {len(outside)} videos)", file=outside[0].place["file"])
        elif outside:
            self.fault(outside[0])
        return built

    def given(self) -> dict[str, object]:
        """Return the options that differ from the default, by their names in a configuration."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.compare}
        return {name: value for name, value in values.items() if value != getattr(ReadOptions, name)}


class Found(NamedTuple):
    """A layout that a path was recognised as."""

    what: str  # such as "COCO video JSON"
    why: str  # what tells, for a sentence after "because"
    load: Callable[[ReadOptions], list[VideoRecord]]
    takes: tuple[str, ...] = ()  # the fields of ReadOptions that mean something here
    has_masks: Callable[[], bool] = lambda: (
        True
    )  # False: it has videos, but nothing that would be their masks


class Layout(NamedTuple):
    """A way to store a dataset on disk."""

    looked_for: str  # what a user is told that there might have been
    recognise: Callable[[str], Found | None]  # of an absolute path that exists; reads as little as it can


def only(places: Sequence[Item]) -> Item | None:
    """Return the video, file or frame of a fault that is about one or several; None if there are
    several.
    """
    return places[0] if len(places) == 1 else None


def is_object_id(value: int) -> bool:
    return _LEAST_ID <= value <= _MOST_ID


def check_object_id(value: int, what: str) -> int:
    """Return the value itself. Raises DataError that begins with `what`: the place, and what the
    number is there.
    """
    if not is_object_id(value):
        raise DataError(
            f"{what} {str(value)[:40]}, which is too large for an object's id; allowed are whole numbers "
            f"from {_LEAST_ID} to {_MOST_ID}: number the objects from 1 on"
        )
    return value
