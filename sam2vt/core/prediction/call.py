"""The folder of one call of predict: what was asked, journals, saved states, which videos are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.source import Source
from sam2vt.core.storage.disk import unwritable, write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

_REQUEST, _JOURNALS = "predict.json", "journals"
_DONE, _MASKS, _STATE = ".json", ".masks.jsonl", ".state"


@dataclass(frozen=True)
class _Finished:
    """What a finished video's outputs need, beside its journal."""

    name: str
    video_id: str
    height: int
    width: int
    num_frames: int
    stems: tuple[str, ...]
    names: tuple[tuple[int, str], ...]
    fps: float
    apart: bool


class Call:
    """The files of a call below its folder. What the disk refuses is a DataError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journals = folder / _JOURNALS

    def begin(self, request: Mapping[str, Any]) -> None:
        """Note what is asked, or compare it with what was asked here before.

        Raises ConfigError that names what differs: a resumed call continues the same one.
        """
        path, asked = self.folder / _REQUEST, json.loads(json.dumps(request))
        if not path.exists():
            self._write(path, json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
            return
        before = _read(path)
        differing = [name for name in {**before, **asked} if before.get(name) != asked.get(name)]
        if differing:
            faults = [f"{name}: was {before.get(name)!r}, is {asked.get(name)!r}" for name in differing]
            faults.append(
                "give what it was begun with, or leave --resume out to begin anew in another folder"
            )
            raise ConfigError.listing(f"--resume {self.folder} continues another call", faults)

    def journal(self, name: str) -> Path:
        """Return the path of a video's journal."""
        return self._journals / f"{name}{_MASKS}"

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Save where a video stands; the last state stays until this one is whole."""
        path = self._journals / f"{name}{_STATE}"
        try:
            with write_whole(path, sync=True) as written:
                torch.save(state, written)
        except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError on a full disk
            cause = error if isinstance(error, OSError) else OSError(28, "the disk refuses it")
            raise unwritable(path, cause) from None

    def saved(self, name: str) -> dict[str, Any] | None:
        """Return where a video stands; None where nothing was saved."""
        path = self._journals / f"{name}{_STATE}"
        if not path.exists():
            return None
        try:
            return torch.load(path, weights_only=True)
        except Exception as error:  # whatever a damaged file makes of it
            raise DataError(
                f"{path}: the saved state cannot be read: {error}; remove it to track this video anew",
                file=str(path),
            ) from None

    def finish(
        self, name: str, source: Source, num_frames: int, names: Mapping[int, str], apart: bool
    ) -> TrackedVideo:
        """Note that all frames of a video are tracked, and return it; `apart` as `TrackedVideo` has it."""
        stems = tuple(source.frame_name(frame) for frame in range(num_frames))
        size = source.height, source.width
        about = (name, source.video_id, *size, num_frames, stems, tuple(names.items()))
        done = _Finished(*about, source.fps or 24.0, apart)
        self._write(self._journals / f"{name}{_DONE}", json.dumps(asdict(done)))
        return self._tracked(done, source.record)

    def forget_state(self, name: str) -> None:
        """Remove what `save` saved of a video whose outputs are written."""
        (self._journals / f"{name}{_STATE}").unlink(missing_ok=True)

    def is_finished(self, name: str) -> bool:
        """Return whether a video is tracked and its outputs are written."""
        return (self._journals / f"{name}{_DONE}").exists() and not (
            self._journals / f"{name}{_STATE}"
        ).exists()

    def finished(self, name: str, record: VideoRecord | None = None) -> TrackedVideo | None:
        """Return a video whose frames are all tracked, else None; `record` are the source's frames."""
        path = self._journals / f"{name}{_DONE}"
        if not path.exists():
            return None
        given = _read(path)
        try:
            stems, names = tuple(given.pop("stems")), tuple((key, text) for key, text in given.pop("names"))
            return self._tracked(_Finished(**given, stems=stems, names=names), record)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is damaged: {error}; remove it to track this video anew") from None

    def names(self) -> list[str]:
        """Return the names of all videos whose frames are tracked."""
        return sorted(path.name.removesuffix(_DONE) for path in self._journals.glob(f"*{_DONE}"))

    def _tracked(self, done: _Finished, record: VideoRecord | None) -> TrackedVideo:
        fields = {**vars(done), "names": dict(done.names)}
        return TrackedVideo(**fields, journal=self.journal(done.name), record=record)

    def _write(self, path: Path, text: str) -> None:
        try:
            with write_whole(path) as written:
                written.write_text(text, encoding="utf-8")
        except OSError as error:
            raise unwritable(path, error) from None


def load_masks(folder: str | Path) -> dict[str, TrackedVideo]:
    """Return the videos that a call of predict has tracked, by id; `frames()` yields their masks.

    Raises DataError where the folder is none of `sam2vt predict`, or holds no finished video.
    """
    call = Call(Path(folder))
    videos = [video for name in call.names() if (video := call.finished(name)) is not None]
    if not videos:
        raise DataError(f"{folder}: holds no finished video of `sam2vt predict`; name the folder it printed")
    return {video.video_id: video for video in videos}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
        reason = "it is no object"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise DataError(f"{path}: cannot be read: {reason}; begin anew in another folder", file=str(path))
