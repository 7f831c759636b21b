"""Manage the folder of one predict call: its request, journals, saved states and finished videos."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.source import Source
from sam2vt.core.storage.disk import locked, unwritable, write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

_REQUEST, _JOURNALS = "predict.json", "journals"
_DONE, _MASKS, _STATE, _LOCK = ".json", ".masks.jsonl", ".state", "lock"
_FORMATS = "formats"  # may differ in a call that is continued: they change no masks


@dataclass(frozen=True)
class _Finished:
    """Data that the outputs of a finished video need besides its journal."""

    name: str
    video_id: str
    height: int
    width: int
    num_frames: int
    stems: tuple[str, ...]
    names: tuple[tuple[int, str], ...]
    fps: float
    apart: bool
    formats: tuple[str, ...] = ()  # that are written


class Call:
    """The files of a call, below its folder. Errors of the disk become DataErrors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journals = folder / _JOURNALS
        self._began_here = False  # not resumed

    def alone(self) -> AbstractContextManager[None]:
        """Reserve the folder for this process. Raises ConfigError if another call is writing there."""
        taken = ConfigError(
            f"{self.folder}: another call of `sam2vt predict` is writing there; wait until it has ended, or "
            "name another folder with --out"
        )
        return locked(self._journals / _LOCK, taken)

    def begin(self, request: Mapping[str, Any]) -> list[str]:
        """Store the request, or compare it with the one stored before; return the formats of both.

        Raises ConfigError that names the difference: a resumed call must repeat the request; only its formats
        may differ.
        """
        path, asked = self.folder / _REQUEST, json.loads(json.dumps(request))
        before = _read(path) if path.exists() else asked
        keys = {**before, **asked}.keys() - {_FORMATS}
        differing = sorted(name for name in keys if before.get(name) != asked.get(name))
        if differing:
            told = [f"{name}: was {before.get(name)!r}, is {asked.get(name)!r}" for name in differing]
            text = "give what it was begun with, or leave --resume out to begin anew in another folder"
            raise ConfigError(
                "\n  - ".join([f"--resume {self.folder}: that call was another one; {text}", *told]), told
            )
        formats = list(dict.fromkeys([*before.get(_FORMATS, ()), *asked.get(_FORMATS, ())]))
        self._began_here = not path.exists()
        if self._began_here or formats != before.get(_FORMATS):
            content = {**asked, **({_FORMATS: formats} if formats else {})}
            self._write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return formats

    def forget(self) -> bool:
        """Remove the files of a call that has tracked no frame yet; return whether there was one."""
        masks = list(self._journals.glob(f"*{_MASKS}"))
        if not self._began_here or any(each.stat().st_size for each in masks):
            return False
        with suppress(OSError):  # a network disk keeps the lock, which is open, a little longer
            for each in [self.folder / _REQUEST, *self._journals.iterdir()]:
                each.unlink()
            self._journals.rmdir()
        return True

    def journal(self, name: str) -> Path:
        """Return the path of a video's journal."""
        return self._journals / f"{name}{_MASKS}"

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Save the state of a video; the previous one stays until this one is complete."""
        path = self._journals / f"{name}{_STATE}"
        try:
            with write_whole(path, sync=True) as written:
                torch.save(state, written)
        except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError on a full disk
            cause = error if isinstance(error, OSError) else OSError(28, "the disk refuses it")
            raise unwritable(path, cause) from None

    def saved(self, name: str, device: str = "cpu") -> dict[str, Any] | None:
        """Return the state of a video on this device, whichever device saved it; None if there is none."""
        path = self._journals / f"{name}{_STATE}"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except Exception as error:  # whatever a damaged file makes of it
            raise DataError(
                f"{path}: the saved state cannot be read: {error}; remove it to track this video anew",
                file=str(path),
            ) from None

    def so_far(self, name: str, source: Source, num_frames: int, names: Mapping[int, str]) -> TrackedVideo:
        """Return a video whose first frames are tracked."""
        about = (name, source.video_id, source.height, source.width, num_frames, (), dict(names))
        return TrackedVideo(*about, self.journal(name), None)

    def finish(
        self, name: str, source: Source, num_frames: int, names: Mapping[int, str], apart: bool
    ) -> TrackedVideo:
        """Mark a video as completely tracked, and return it; `apart` as in `TrackedVideo`."""
        stems = tuple(source.frame_name(frame) for frame in range(num_frames))
        size = source.height, source.width
        about = (name, source.video_id, *size, num_frames, stems, tuple(names.items()))
        done = _Finished(*about, source.fps or 24.0, apart)
        self._note(done)
        return self._tracked(done, source.record)

    def written(self, name: str, formats: Collection[str]) -> None:
        """Store the formats that a video is written in, and delete its state."""
        done = self._done(name)
        assert done is not None
        self._note(replace(done, formats=tuple(dict.fromkeys([*done.formats, *formats]))))
        (self._journals / f"{name}{_STATE}").unlink(missing_ok=True)

    def is_finished(self, name: str, formats: Collection[str] = ()) -> bool:
        """Return whether a video is tracked and written in these formats."""
        done = self._done(name)
        return done is not None and set(formats) <= set(done.formats)

    def finished(self, name: str, record: VideoRecord | None = None) -> TrackedVideo | None:
        """Return a video whose frames are all tracked, else None; `record` are the source's frames."""
        done = self._done(name)
        return None if done is None else self._tracked(done, record)

    def names(self) -> list[str]:
        """Return the names of all videos whose frames are tracked."""
        return sorted(path.name.removesuffix(_DONE) for path in self._journals.glob(f"*{_DONE}"))

    def _note(self, done: _Finished) -> None:
        self._write(self._journals / f"{done.name}{_DONE}", json.dumps(asdict(done)))

    def _done(self, name: str) -> _Finished | None:
        path = self._journals / f"{name}{_DONE}"
        if not path.exists():
            return None
        given = _read(path)
        try:
            lists = {key: tuple(given[key]) for key in ("stems", _FORMATS)}
            return _Finished(
                **{**given, **lists, "names": tuple((key, text) for key, text in given["names"])}
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is damaged: {error}; remove it to track this video anew") from None

    def _tracked(self, done: _Finished, record: VideoRecord | None) -> TrackedVideo:
        fields = {**vars(done), "names": dict(done.names)}
        del fields[_FORMATS]
        return TrackedVideo(**fields, journal=self.journal(done.name), record=record)

    def _write(self, path: Path, text: str) -> None:
        try:
            with write_whole(path) as written:
                written.write_text(text, encoding="utf-8")
        except OSError as error:
            raise unwritable(path, error) from None


def load_masks(folder: str | Path) -> dict[str, TrackedVideo]:
    """Return the videos that a predict call has tracked, by id; `frames()` yields their masks.

    Raises DataError if the folder is not from `sam2vt predict`, or contains no finished video.
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
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise DataError(f"{path}: cannot be read: {reason}; begin anew in another folder", file=str(path))
