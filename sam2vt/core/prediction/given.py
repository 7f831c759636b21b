"""Read a call's prompts from its options: clicks, prompt files, masks, detections, or a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2vt.core.prediction.association import Association
from sam2vt.core.prediction.detection_files import read_detections
from sam2vt.core.prediction.detections import Detections
from sam2vt.core.prediction.mask_prompts import first_masks, prompts_from_masks
from sam2vt.core.prediction.prompt_files import read_prompts
from sam2vt.core.prediction.prompts import Prompts, prompts_from_options
from sam2vt.core.prediction.source import Source
from sam2vt.core.prediction.types import VideoPrompts
from sam2vt.errors import ConfigError

WAYS = (
    "--point x,y and --negative x,y, --box x0,y0,x1,y1 (one object of one video), --prompts FILE, "
    "--masks FOLDER, --detections FILE"
)


@dataclass(frozen=True)
class Asked:
    """The sources of prompts that the options name."""

    point: Sequence[str] = ()
    negative: Sequence[str] = ()
    box: str | None = None
    frame: int = 0
    prompts: str | None = None
    masks: str | None = None
    detections: str | None = None
    detections_images: str | None = None
    min_score: float = 0.0
    match_iou: float = 0.5
    reprompt_every: int = 0
    end_after: int = 0

    def __post_init__(self) -> None:
        kinds = {
            "--point, --negative and --box": self.clicks,
            "--prompts": self.prompts,
            "--masks": self.masks,
        }
        named = [kind for kind, value in kinds.items() if value]
        if len(named) > 1:
            raise ConfigError(f"{', '.join(named)}: give prompts in one way; allowed are {WAYS}")
        if self.frame and not self.clicks:
            raise ConfigError("--frame: is of --point, --negative and --box, and none of them is given")
        of_detections = ("detections_images", "min_score", "match_iou", "reprompt_every", "end_after")
        alone = [each for each in of_detections if getattr(self, each) != getattr(Asked, each)]
        if self.detections is None and alone:
            options = ", ".join(f"--{each.replace('_', '-')}" for each in alone)
            raise ConfigError(f"{options}: without --detections FILE it means nothing; leave it out")

    @property
    def clicks(self) -> bool:
        """Whether options alone show the only object."""
        return bool(self.point or self.negative or self.box)


class Given:
    """The prompts and detections of the sources of a call."""

    def __init__(self, asked: Asked, sources: Sequence[Source]) -> None:
        """Read the files. Raises ConfigError if a video has no prompts, DataError for invalid files."""
        self._asked, self._sources = asked, sources
        self._first: dict[str, str] = {}  # video id -> digest of the masks that its dataset shows it by
        ids = [source.video_id for source in sources]
        self._prompts = self._read(sources)
        if self._prompts is not None:
            self._prompts.check_videos(ids)
        self._detections: Detections | None = None
        if asked.detections is not None:
            self._detections = read_detections(
                asked.detections, ids, asked.detections_images, asked.min_score
            )
        if self._prompts is None and self._detections is None:
            bare = next((source.video_id for source in sources if not source.has_masks), None)
            if bare is not None:
                raise ConfigError(
                    f"video {bare} has no masks that could show its objects, and no prompt is given; allowed "
                    f"are {WAYS}"
                )

    def _read(self, sources: Sequence[Source]) -> Prompts | None:
        asked = self._asked
        if asked.prompts:
            return read_prompts(asked.prompts)
        if asked.masks:
            return prompts_from_masks(asked.masks, {each.video_id: _stems(each) for each in sources})
        if asked.clicks:
            return prompts_from_options(asked.point, asked.negative, asked.box, asked.frame)
        return None

    def __call__(self, source: Source) -> tuple[VideoPrompts, Association | None]:
        """Return the prompts of a source, and the association of its detections. Raises DataError."""
        where = (source.video_id, source.height, source.width, source.num_frames)
        prompts = VideoPrompts(())
        if self._prompts is not None:
            prompts = self._prompts.for_video(*where)
        elif self._detections is None:
            assert source.record is not None
            prompts = first_masks(source.record)
            self._first[source.video_id] = _digest(prompts)
        if self._detections is None:
            return prompts, None
        taken = {each.object_id for each in prompts.prompts}
        found, asked = self._detections.for_video(*where), self._asked
        return prompts, Association(found, asked.match_iou, asked.reprompt_every, taken, asked.end_after)

    def digest(self) -> str:
        """Return a digest of all files and options that prompts are read from."""
        asked, content = self._asked, hashlib.sha256()
        content.update(repr((asked.point, asked.negative, asked.box, asked.frame)).encode())
        named = (asked.prompts, asked.detections, asked.detections_images)
        files = [(Path(each).name, Path(each)) for each in named if each]
        if asked.masks is not None:  # their folders may tell video and object
            files += [
                (str(each.relative_to(asked.masks)), each) for each in sorted(Path(asked.masks).rglob("*"))
            ]
        for name, path in files:
            if path.is_file():
                content.update(name.encode(errors="surrogateescape") + b"\0" + path.read_bytes())
        if self._prompts is not None:  # masks that a file names are no files of their own here
            content.update(self._prompts.content.encode())
        elif self._detections is None:
            for source in self._sources:
                if source.video_id not in self._first:  # they may be read only once
                    self(source)
                content.update(f"{source.video_id}\0{self._first[source.video_id]}".encode())
        return content.hexdigest()


def _digest(prompts: VideoPrompts) -> str:
    content = hashlib.sha256(repr(prompts.names).encode())
    for each in prompts.prompts:
        assert each.mask is not None
        content.update(f"{each.object_id} {each.frame}".encode() + np.packbits(each.mask).tobytes())
    return content.hexdigest()


def _stems(source: Source) -> list[str] | None:
    """Return the names of frames that are files; those of a video file have none."""
    if source.record is None or source.record.frame_paths is None or source.num_frames is None:
        return None
    return [source.frame_name(frame) for frame in range(source.num_frames)]
