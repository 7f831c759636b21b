"""Keep digests of the pickled files that a sweep's own driver wrote, in the user's home and signed.

Tune pickles its state, and reading a pickle can run code. Whoever can write to the sweep's storage could put
another file there, with its digest. So the digests are kept elsewhere. On a cluster with a token they are
also in the storage, signed with the token, so that a new head knows them: whoever has the token can run code
anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray.tune.execution.experiment_state import _ExperimentCheckpointManager

from sam2vt.core.storage.disk import file_sha256
from sam2vt.core.storage.folder import IS_FOLDER
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep.record import TUNE_FOLDER, TUNER
from sam2vt.errors import ConfigError

log = logging.getLogger(__name__)

TRUST = "SAM2VT_TRUST_SWEEPS"  # environment variable: 1 reads whatever the storage holds
_UNPICKLED = (".pkl", ".json")  # Tune's JSON holds pickles, too
_ERROR = "error.pkl"  # in the folder of a trial
_SIGNED = "tune_digests.json"  # in the run folder
_DIGESTS_KEPT = 8  # per file: the stored one may be some versions older than the noted one


def check_written_here(storage: RunStorage) -> None:
    """Raise ConfigError if Tune would unpickle a file that no driver of this sweep wrote on this machine."""
    if os.environ.get(TRUST) == "1":
        return
    known, folder = _known(storage), storage.folder(TUNE_FOLDER)
    known = known.union(*_signed(storage).values())
    strange = [name for name in _unpickled(storage) if folder.sha256(name) not in known]
    if strange:
        raise ConfigError(
            f"{folder.address(strange[0])}: no sweep of yours wrote this file on this machine, and reading "
            f"it can run code. If you trust all who can write there, as after a move or with a sweep of an "
            f"earlier version, resume with {TRUST}=1 in the environment; or begin anew in another output_dir"
        )


@contextmanager
def noting_state(storage: RunStorage) -> Iterator[None]:
    """Record the digests of files that Tune writes in this block, before they appear in the storage."""
    manager: Any = _ExperimentCheckpointManager
    sync = manager.sync_up_experiment_state

    def note_and_sync(self: Any, save_fn: Any, *arguments: Any, **named: Any) -> Any:
        def save() -> None:
            save_fn()
            staged = Path(self._storage.experiment_driver_staging_path)
            files = [
                *(path for path in staged.glob("*") if path.suffix in _UNPICKLED),
                *staged.glob(f"*/{_ERROR}"),
            ]
            _note(storage, {str(path.relative_to(staged)): file_sha256(path) for path in files})

        return sync(self, save, *arguments, **named)

    manager.sync_up_experiment_state = note_and_sync
    try:
        yield
    finally:
        manager.sync_up_experiment_state = sync


def note_tuner(storage: RunStorage) -> None:
    """Record the digest of Tune's settings, which this process has just stored."""
    _note(storage, {TUNER: storage.folder(TUNE_FOLDER).sha256(TUNER)})


def _unpickled(storage: RunStorage) -> list[str]:
    folder = storage.folder(TUNE_FOLDER)
    sizes = folder.sizes()
    errors = [f"{name}/{_ERROR}" for name, size in sizes.items() if size == IS_FOLDER]
    return [*(name for name in sorted(sizes) if name.endswith(_UNPICKLED)), *sorted(folder.has(*errors))]


def _known(storage: RunStorage) -> set[str]:
    path = _notes(storage)
    return set(path.read_text().split()) if path.is_file() else set()


def _note(storage: RunStorage, digests: Mapping[str, str]) -> None:
    """Note name -> digest, in the home and, where the cluster has a token, signed beside the sweep."""
    _sign(storage, digests)
    path = _notes(storage)
    try:
        new = sorted(set(digests.values()) - _known(storage))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a") as file:
            file.write("".join(f"{digest}\n" for digest in new))
    except OSError as error:
        log.warning("%s: cannot be written (%s): this sweep resumes with %s=1 only", path, error, TRUST)


def _notes(storage: RunStorage) -> Path:
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home, "sam2vt", "sweeps", hashlib.sha256(storage.root.encode()).hexdigest())


def _sign(storage: RunStorage, digests: Mapping[str, str]) -> None:
    if (token := _token()) is None:
        return
    files = _signed(storage)
    for name, digest in digests.items():
        files[name] = [*(each for each in files.get(name, []) if each != digest), digest][-_DIGESTS_KEPT:]
    content = {"files": files, "hmac": _hmac(token, storage.root, files)}
    try:
        storage.folder().write(_SIGNED, json.dumps(content).encode())
    except OSError as error:
        log.warning("%s: cannot be written (%s)", storage.join(_SIGNED), error)


def _signed(storage: RunStorage) -> dict[str, list[str]]:
    """Return the digests of each file that a holder of the cluster's token signed for this run folder."""
    if (token := _token()) is None:
        return {}
    try:
        content = json.loads(storage.folder().read(_SIGNED))
        files, signature = content["files"], content["hmac"]
        is_own = hmac.compare_digest(_hmac(token, storage.root, files), signature)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return files if is_own else {}


def _hmac(token: bytes, root: str, files: dict[str, list[str]]) -> str:
    return hmac.new(_key(token), json.dumps([root, files], sort_keys=True).encode(), "sha256").hexdigest()


@lru_cache(maxsize=4)
def _key(token: bytes) -> bytes:
    # Slow: readers of the storage could try short tokens on the signature.
    return hashlib.scrypt(token, salt=b"sam2vt sweep state", n=2**14, r=8, p=1)


def _token() -> bytes | None:
    """Return the token of a cluster with token authentication, from where Ray takes it; else None."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return None
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        token = os.environ.get("RAY_AUTH_TOKEN") or path.read_text()
    except (OSError, ValueError):
        return None
    return token.strip().encode() or None
