"""Fetch files of the Hugging Face hub, in Meta's form or in that of transformers, and upload the latter."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sam2vt.core.storage.hf_folder import CONFIG, FILES, WEIGHTS, read_config, weights_of
from sam2vt.errors import CheckpointError, ConfigError, first_line
from sam2vt.health.packages import missing

log = logging.getLogger(__name__)

HUB_PREFIX = "hf://"
_HUB = re.compile(r"hf://(?P<owner>[^/@]+)/(?P<name>[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
# A name as the hub takes it, without an owner's or a file's address around it.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKEN = re.compile(r"\bhf_\w{8,}")
# What the hub's client raises, by name: it is imported only when it is needed.
_NO_FILE, _NO_ANSWER = (
    "EntryNotFoundError",
    ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError"),
)
_REMEDIES = {
    "RevisionNotFoundError": "Name a branch, tag or commit that the repository has",
    "RepositoryNotFoundError": "See that the name is right; a private one needs `hf auth login` or HF_TOKEN",
}


def hub_parts(path: str) -> tuple[str, str, str | None]:
    """Return (owner/repository, file, revision) of a hub's address. Raises CheckpointError."""
    found = _HUB.fullmatch(path)
    if found is None:
        raise CheckpointError(
            f"{path}: write hf://<owner>/<repository>[@<revision>][/<file>], such as "
            f"hf://facebook/sam2.1-hiera-tiny; a / in a revision is written %2F"
        )
    # Meta's repositories name their file like themselves, but for the hyphens.
    file = found["file"] or f"{found['name'].replace('-', '_')}.pt"
    revision = found["revision"]
    return f"{found['owner']}/{found['name']}", file, revision and unquote(revision)


def pinned(path: str) -> str:
    """Return a hub's file with the current commit of its branch or tag.

    Without a file, it is the one that Meta's repositories have, else that of transformers. The commit is
    logged. Raises CheckpointError if the hub does not answer.
    """
    repository, _, revision = hub_parts(path)
    is_commit = bool(revision and re.fullmatch("[0-9a-f]{40}", revision))
    if is_commit and _names_file(path):
        return path
    local, file = _found(path)
    # The client's cache has a folder for each commit, .../snapshots/<commit>/<file>.
    folder = local.removesuffix(f"/{file}")
    if not folder.rpartition("/")[0].endswith("/snapshots"):
        return path
    commit = folder.rpartition("/")[2]
    log.info("%s: revision %s", path, commit)
    return f"{HUB_PREFIX}{repository}@{commit}/{file}"


def download(path: str) -> str:
    """Return a hub's file as a local one, in the client's cache. Raises CheckpointError."""
    return _found(path)[0]


def files_of(folder: str, repository: str) -> list[Path]:
    """Return the files of an export for `upload`, and no others. Raises CheckpointError if it is none.

    Raises ConfigError for a name that is no repository's.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"{repository}: must be <owner>/<name> on the hub, such as me/tuned")
    if weights_of(folder) == folder:
        text = "is no folder for transformers; write one with `sam2vt export RUN FOLDER --to hf`"
        raise CheckpointError(f"{folder}: {text}")
    found = [Path(folder).expanduser() / name for name in FILES]
    return [each for each in found if each.is_file()]


def upload(folder: str, repository: str, *, public: bool = False) -> str:
    """Create the repository if it is missing, upload the export, and return the address of the commit.

    The token is the one that the hub's client finds: of `hf auth login`, or HF_TOKEN. Raises CheckpointError
    if the hub refuses, and for a public repository unless `public`.
    """
    names = [each.name for each in files_of(folder, repository)]
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise CheckpointError(f"{repository}: {missing('huggingface_hub') or error}") from error
    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        # One that was there keeps its visibility.
        is_public = not api.repo_info(repository).private
        if not is_public or public:
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=Path(folder).expanduser(),
                allow_patterns=names,
                commit_message="Upload by sam2vt",
            )
            return str(commit.commit_url)
    except Exception as error:  # the hub's client raises errors of several libraries
        text = _TOKEN.sub("hf_***", first_line(error)).rstrip(".")
        remedy = "Log in with `hf auth login`, as somebody who may write there"
        if _is(error, *_NO_ANSWER):
            remedy = "See that this machine reaches the hub, or upload the folder from another one"
        raise CheckpointError(
            f"{repository}: cannot be uploaded to the hub: {text}. {remedy}"
        ) from None  # its text, too, may show how it was asked
    raise CheckpointError(f"{repository}: is public on the hub; upload with --public, or name another one")


def _names_file(path: str) -> bool:
    found = _HUB.fullmatch(path)
    return found is not None and found["file"] is not None


def _found(path: str) -> tuple[str, str]:
    """Return a hub's file as a local one, and its name in the repository."""
    _, file, _ = hub_parts(path)
    try:
        if _names_file(path):
            return _fetch_weights(path, file), file
        return _fetch_either(path, file)
    except CheckpointError:
        raise
    except Exception as error:  # the hub's client raises errors of several libraries
        raise _refusal(path, error) from error


def _fetch_either(path: str, metas: str) -> tuple[str, str]:
    """Return the file `metas` of a repository in Meta's form, else that of one in transformers' form."""
    try:
        return _fetch(path, metas), metas
    except Exception as error:
        if not _is(error, _NO_FILE):
            raise
        # Without a network each attempt takes half a minute, so that only the cache is searched.
        offline = _is(error, *_NO_ANSWER)
        try:
            return _fetch_weights(path, WEIGHTS, **({"local_files_only": True} if offline else {})), WEIGHTS
        except CheckpointError:
            raise
        except Exception as other:
            if offline:
                raise error from other
            if _is(other, _NO_FILE):
                text = f"has neither {metas} nor {CONFIG} with {WEIGHTS}; name its file, {path}/<file>"
                raise CheckpointError(f"{path}: {text}") from other
            raise


def _fetch_weights(path: str, file: str, **how: Any) -> str:
    """Fetch a file; of weights in transformers' form, their configuration first, which is small."""
    folder, _, name = file.rpartition("/")
    if name == WEIGHTS:
        read_config(Path(_fetch(path, f"{folder}/{CONFIG}".lstrip("/"), **how)))
    return _fetch(path, file, **how)


def _fetch(path: str, file: str, **how: Any) -> str:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise CheckpointError(f"{path}: {missing('huggingface_hub') or error}") from error
    repository, _, revision = hub_parts(path)
    return hf_hub_download(repository, file, revision=revision, **how)


def _is(error: BaseException, *names: str) -> bool:
    return any(each.__name__ in names for each in type(error).__mro__)


def _refusal(path: str, error: Exception) -> CheckpointError:
    """Return the error of a file that could not be fetched, with what to do."""
    repository, _, revision = hub_parts(path)
    remedy = next((text for name, text in _REMEDIES.items() if _is(error, name)), "")
    if _is(error, *_NO_ANSWER):
        at = f" --revision {revision}" if revision else ""
        remedy = (
            f"Without network, run `hf download {repository}{at} --local-dir FOLDER` elsewhere, and name "
            f"its file here; or copy models--{repository.replace('/', '--')} from that machine's cache into "
            f"{_cache()}"
        )
    text = first_line(error).rstrip(".")
    return CheckpointError(f"{path}: cannot be fetched from the hub: {text}{remedy and '. '}{remedy}")


def _cache() -> str:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return "~/.cache/huggingface/hub"
    return str(HF_HUB_CACHE)
