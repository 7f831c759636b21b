"""Keep a run's checkpoints in one folder, local or remote; only complete and intact ones count."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from sam2vt.core.storage.disk import ADAPTER, UNFINISHED
from sam2vt.core.storage.folder import Folder
from sam2vt.errors import CheckpointError

log = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
# Under this name Lightning files the state of our data module, which holds the position in the clips.
DATA_STATE = "SAM2LightningDataModule"
_OURS = re.compile(r"step_\d{8}(-\d+)?\.(ckpt|json)")
# Callbacks write other unfinished files into the same folder, which are theirs to tidy up.
_ADAPTERS = re.compile(rf"step_\d{{8}}(-\d+)?{re.escape(ADAPTER)}")
_OURS_UNFINISHED = re.compile(
    rf"\.({_OURS.pattern}|{_ADAPTERS.pattern}|(best|last)(\.ckpt|{re.escape(ADAPTER)})){re.escape(UNFINISHED)}"
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class CheckpointInfo:
    """The place in the run where a checkpoint was taken, and the reason."""

    step: int  # optimizer steps done
    epoch: int  # of the next clip
    samples_seen: int  # clips trained on, over all ranks
    world_size: int
    reason: str  # interval, validation, epoch, preemption, sigterm or end
    score: float | None  # val/J&F of these very weights, where they were validated
    # Copies of what the file holds, so that a resumed run need not read it to plan; None in older manifests.
    position: Mapping[str, Any] | None = None  # state of our data module
    config: Mapping[str, Any] | None = None  # the run's configuration as plain containers


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest(CheckpointInfo):
    """The JSON file beside a checkpoint, written after it: a checkpoint without a manifest does not count."""

    file: str
    size: int  # bytes
    sha256: str
    written: str  # ISO time, UTC

    @property
    def name(self) -> str:
        """Name of the manifest's file."""
        return _manifest_of(self.file)


class CheckpointStore:
    """Stores `step_00000120.ckpt` and its manifest `step_00000120.json` per checkpoint.

    A checkpoint of adapters has an adapter file `step_00000120.safetensors` too.

    `root` is a local path or a URI; `filesystem` replaces that of `root`. The store keeps the `keep_newest`
    newest checkpoints and the `keep_best` with the highest score. `last.ckpt` and `best.ckpt` are permanent
    names of the newest and the best. Steps only grow: storing a checkpoint deletes those of later steps,
    which come from an abandoned attempt.

    A failed operation is tried three times with `pauses` (seconds) in between, then OSError is raised.
    """

    def __init__(
        self,
        root: str,
        *,
        keep_best: int = 1,
        keep_newest: int = 2,
        filesystem: Any = None,
        pauses: Sequence[float] = (0.5, 2.0),
    ) -> None:
        self.root = root
        self.keep_best = keep_best
        self.keep_newest = keep_newest
        self._folder = Folder(root, filesystem)
        self._pauses = pauses
        self._best_alias = ""  # file that best.ckpt was made of by this process

    def put(self, local: Path, info: CheckpointInfo, adapter: Path | None = None) -> CheckpointManifest:
        """Move a local checkpoint file into the store and return its manifest, which is written last.

        `adapter` is its adapter file, if it has one.

        Raises OSError if it cannot be stored; earlier checkpoints then stay as they were.
        """
        file = self._free_name(info.step)
        size = local.stat().st_size
        if adapter is not None:
            self._try(lambda: self._folder.put(adapter, _adapter_of(file)))
        digest = self._try(lambda: self._folder.put(local, file))
        written = datetime.now(timezone.utc).isoformat(timespec="seconds")
        manifest = CheckpointManifest(**asdict(info), file=file, size=size, sha256=digest, written=written)
        content = json.dumps(asdict(manifest), indent=1).encode()
        self._try(lambda: self._folder.write(manifest.name, content))
        try:
            self._tidy(manifest)
        except OSError as error:
            log.warning("%s is stored, but older ones could not be tidied up: %s", self.path(manifest), error)
        return manifest

    def newest(self, *, verified: str | None = None) -> CheckpointManifest | None:
        """Return the newest checkpoint whose size and SHA-256 match its manifest; None if there is none.

        Other checkpoints are logged and skipped. The file at the path `verified` is not hashed again. Raises
        CheckpointError if none is found and some could not be read, OSError if the storage cannot be listed.
        """
        sizes, unread = self._try(self._folder.sizes), []
        for name in sorted(sizes):
            # A checkpoint file without a manifest, or a file that was still being written.
            lone = _OURS.fullmatch(name) and name.endswith(".ckpt") and _manifest_of(name) not in sizes
            if not lone and not _OURS_UNFINISHED.fullmatch(name):
                continue
            log.warning("%s: left out, its writing was not finished", self._folder.address(name))
        for name in sorted(filter(_is_manifest, sizes), reverse=True, key=_order):
            try:
                manifest = self._read(name)
                self._check(manifest, sizes, hashed=self.path(manifest) == verified)
                return manifest
            except _TornError as error:
                log.warning("%s: left out, %s", self._folder.address(name), error)
            except OSError as error:
                unread.append(f"{self._folder.address(name)}: {error}")
                log.warning("%s: left out, it cannot be read: %s", self._folder.address(name), error)
        if unread:
            raise CheckpointError(
                f"{self.root}: no intact checkpoint was found, and these could not be read: "
                f"{'; '.join(unread)}. See that the storage answers, or delete them to start anew"
            )
        return None

    def best(self) -> CheckpointManifest | None:
        """Return the checkpoint with the highest score, the earliest of equals; None if none has a score.

        The reader must check its SHA-256. Raises OSError if the storage fails.
        """
        return next(iter(_by_score(self.manifests())), None)

    def describe(self, name: str) -> CheckpointManifest | None:
        """Return the manifest of a file in the store, a checkpoint or a copy of one; None if it has none.

        A checkpoint that does not match its manifest counts as having none; this is logged. Raises OSError if
        the storage fails.
        """
        sizes = self._try(self._folder.sizes)
        if not _OURS.fullmatch(name):  # last.ckpt, best.ckpt, or a name that somebody gave
            same_size = [manifest for manifest in self.manifests() if manifest.size == sizes.get(name)]
            digest = self._try(lambda: self._folder.sha256(name)) if same_size else None
            return next((manifest for manifest in same_size if manifest.sha256 == digest), None)
        try:
            manifest = self._read(_manifest_of(name))
            self._check(manifest, sizes)
        except FileNotFoundError:
            return None
        except _TornError as error:  # torn, or written anew by its owner: whoever reads the file will see
            log.warning("%s: is not what the manifest beside it says: %s", self._folder.address(name), error)
            return None
        return manifest

    def manifests(self) -> list[CheckpointManifest]:
        """Return the manifests of all checkpoints of the right size, oldest first."""
        sizes = self._try(self._folder.sizes)
        found = []
        for name in sorted(filter(_is_manifest, sizes), key=_order):
            try:
                manifest = self._read(name)
            except _TornError:
                continue
            if sizes.get(manifest.file) == manifest.size:
                found.append(manifest)
        return found

    def holds_any(self) -> bool:
        """Return whether a run has written checkpoints here, of any version and complete or not."""
        return any(name.endswith(".ckpt") for name in self._try(self._folder.sizes))

    def discard_after(self, step: int) -> None:
        """Delete the checkpoints of later steps, which a run that resumes from `step` abandons."""
        names = [name for name in self._try(self._folder.sizes) if _is_ours(name)]
        self._delete(name for name in names if _order(name)[0] > step)

    def path(self, manifest: CheckpointManifest) -> str:
        """Return the local path or URI of the checkpoint, for `read_checkpoint`."""
        return self._folder.address(manifest.file)

    def _tidy(self, newest: CheckpointManifest) -> None:
        self.discard_after(newest.step)
        self._alias(newest.file, LAST)
        manifests = [m for m in self.manifests() if m.step < newest.step] + [newest]
        best = _by_score(manifests)[: self.keep_best]
        if best and best[0].file != self._best_alias:
            self._alias(best[0].file, BEST)
            self._best_alias = best[0].file
        kept = [*manifests[-self.keep_newest :], *best]
        names = {name for m in kept for name in (m.file, m.name, _adapter_of(m.file))}
        sizes = self._try(self._folder.sizes)
        old = [name for name in sizes if _is_ours(name) and name not in names]
        self._delete(old + [name for name in sizes if _OURS_UNFINISHED.fullmatch(name)])

    def _alias(self, file: str, alias: str) -> None:
        """Give a checkpoint, and its adapter file if it has one, a permanent name."""
        self._try(lambda: self._folder.alias(file, alias))
        if self._try(lambda: self._folder.has(_adapter_of(file))):
            self._try(lambda: self._folder.alias(_adapter_of(file), _adapter_of(alias)))

    def _delete(self, names: Iterable[str]) -> None:
        """Delete manifests first, so that a checkpoint that is half deleted does not count."""
        for name in sorted(names, key=_is_manifest, reverse=True):
            self._try(lambda name=name: self._folder.delete(name))  # type: ignore[misc]

    def _read(self, name: str) -> CheckpointManifest:
        content = self._try(lambda: self._folder.read(name))
        try:
            values = json.loads(content)
            # Fields with a default are those that older versions did not write.
            known = {
                field.name: values[field.name] if field.default is MISSING else values.get(field.name)
                for field in fields(CheckpointManifest)
            }
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _TornError("its manifest is damaged") from error
        return CheckpointManifest(**known)

    def _check(self, manifest: CheckpointManifest, sizes: dict[str, int], hashed: bool = False) -> None:
        if manifest.file not in sizes:
            raise _TornError(f"{manifest.file} is missing")
        if sizes[manifest.file] != manifest.size:
            raise _TornError(f"{manifest.file} has {sizes[manifest.file]} bytes of {manifest.size}")
        digest = manifest.sha256 if hashed else self._try(lambda: self._folder.sha256(manifest.file))
        if digest != manifest.sha256:
            raise _TornError(f"{manifest.file} has sha256 {digest[:12]}..., not {manifest.sha256[:12]}...")

    def _free_name(self, step: int) -> str:
        """Return a new name: a complete checkpoint of the same step stays until the new one is complete."""
        taken = [_order(name) for name in self._try(self._folder.sizes) if _is_manifest(name)]
        number = max((number for put, number in taken if put == step), default=0) + 1
        return f"step_{step:08d}.ckpt" if number == 1 else f"step_{step:08d}-{number}.ckpt"

    def _try(self, action: Callable[[], Result]) -> Result:
        for pause in self._pauses:
            try:
                return action()
            except (FileNotFoundError, NotADirectoryError):  # the same again at the next try
                raise
            except OSError as error:
                log.info("%s: %s; trying again in %s s", self.root, error, pause)
                time.sleep(pause)
        return action()


def as_json(value: Any) -> Any:
    """Return a value in the form for a manifest; None for one that JSON cannot store."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):  # a module of the user's own may save anything
        return None


class _TornError(Exception):
    """The reason why a checkpoint must not be taken."""


def _by_score(manifests: Iterable[CheckpointManifest]) -> list[CheckpointManifest]:
    """Return those with a score, the highest first, the earliest of equals."""
    scored = [m for m in manifests if m.score is not None and not math.isnan(m.score)]
    return sorted(scored, key=lambda m: (-(m.score or 0.0), m.step))


def _is_manifest(name: str) -> bool:
    return name.endswith(".json") and _OURS.fullmatch(name) is not None


def _is_ours(name: str) -> bool:
    return (_OURS.fullmatch(name) or _ADAPTERS.fullmatch(name)) is not None


def _adapter_of(file: str) -> str:
    return file.removesuffix(".ckpt") + ADAPTER


def _manifest_of(file: str) -> str:
    return file.removesuffix(".ckpt") + ".json"


def _order(name: str) -> tuple[int, int]:
    """Return (step, number of the attempt at this step), for sorting."""
    step, _, number = name.partition(".")[0].removeprefix("step_").partition("-")
    return int(step), int(number or 1)
