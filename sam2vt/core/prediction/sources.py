"""Open what SOURCE names: a live source, a dataset, or video files and folders of frames."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sam2vt.config import READING, DatasetConfig
from sam2vt.core.data.formats import recognise
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    alike,
    check_text,
    names_in,
    natural_key,
    some,
    stem,
)
from sam2vt.core.data.formats.packed import pack_at
from sam2vt.core.data.formats.paths import check_readable
from sam2vt.core.data.formats.records import bare_record
from sam2vt.core.data.frames.video_index import open_video
from sam2vt.core.data.opening import open_records
from sam2vt.core.data.records.table import SUFFIX
from sam2vt.core.prediction.finding import Media, find_media, is_pattern, match_media
from sam2vt.core.prediction.live import live_source
from sam2vt.core.prediction.source import FetchedSource, Source
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError
from sam2vt.settings import default_of

log = logging.getLogger(__name__)

ALLOWED = (
    f"a video file ({', '.join(VIDEO_EXTENSIONS[:7])}, ...), a folder of frames "
    f"({', '.join(IMAGE_EXTENSIONS)}), a folder of these, a pattern such as 'clips/*.mp4', a URI, a dataset "
    "(docs/data.md) or a pack, - for a pipe, camera:0, or rtsp://..."
)


def open_sources(source: str, settings: DatasetConfig | None = None) -> list[Source]:
    """Return the videos that SOURCE names, in natural order of their ids; the log says how it was recognised.

    `settings` say how to read a dataset. A pattern always means the files that it matches; any other path
    with annotations is read as a dataset. Raises DataError if there is no video, if frames have no clear
    order or if two videos have the same id, ConfigError for settings that have no effect there.
    """
    settings = replace(settings or DatasetConfig(), data_path=source)
    if not source.strip():
        raise DataError(f"SOURCE is empty; allowed are {ALLOWED}")
    live = live_source(check_text(source))
    if live is not None:
        _refuse_settings(settings, live.kind.what)
        log.info("%s: recognised as %s", live.where, live.kind.what)
        return [live]
    path = source if "://" in source else os.path.abspath(os.path.expanduser(source))
    # A name with such characters in it may also be that of a file.
    if is_pattern(path) and not os.path.lexists(path):
        return _bare(path, match_media(path), "a pattern", settings)
    if "://" not in path:
        _check_exists(path)
    return _dataset(path, settings) or _bare(path, find_media(path), None, settings)


def _check_exists(path: str) -> None:
    if not os.path.exists(path):
        gone = "is a link to nothing" if os.path.lexists(path) else "does not exist"
        parent = os.path.dirname(path)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        raise DataError(f"SOURCE {path} {gone}; {parent} holds {some(names_in(parent), 8) or 'nothing'}")
    check_readable(path, "SOURCE")


def _dataset(path: str, settings: DatasetConfig) -> list[Source]:
    """Return the videos of a dataset; none where the path is none, and nobody says that it is one."""
    is_named = settings.dataset_type != "auto"
    if not (is_named or path.endswith(SUFFIX) or pack_at(path)):
        found = None if "://" in path else recognise("auto", path)
        if found is None or not found.has_masks():
            return []
    try:
        records = open_records(settings)
    except DataError as error:
        if is_named or "://" in path:
            raise
        hint = "To track without its annotations, name its frames or video files by a pattern, such as"
        files = f"{path}/*.mp4" if os.path.isdir(path) else "*".join(os.path.splitext(path))
        raise DataError(f"{error}. {hint} '{files}'", **error.place) from None
    # By their places: rows of a table are read when they are asked for.
    return [
        Source(record.video_id, _where(record), partial(records.__getitem__, place), bare=False)
        for place, record in enumerate(records)
    ]


def _where(record: VideoRecord) -> str:
    return record.video_path or record.source


def _bare(path: str, media: Sequence[Media], what: str | None, settings: DatasetConfig) -> list[Source]:
    """Return the videos of files and folders without annotations, checked as far as their headers tell."""
    if not media:
        holds = f"holds {some(names_in(path), 8) or 'nothing'}" if os.path.isdir(path) else "names no video"
        raise DataError(f"SOURCE {path} {holds}; allowed are {ALLOWED}")
    whole = (media[0].is_file and "a video file") or "a folder of frames"
    what = what or (whole if len(media) == 1 and media[0].path == path else "a folder of videos")
    _refuse_settings(settings, what)
    named = sorted(_ids(path, media).items(), key=lambda each: natural_key(each[0]))
    log.info(
        "%s: recognised as %s without annotations: %s", path, what, some(video_id for video_id, _ in named)
    )
    return [_source(video_id, each) for video_id, each in named]


def _source(video_id: str, media: Media) -> Source:
    if media.is_remote:
        return FetchedSource(video_id, media.path, media.folder, media.names, media.has_images)
    if media.has_images:
        frames = [os.path.join(media.folder, name) for name in media.names]
        record = bare_record(video_id, media.path, frames)
        return Source(video_id, media.path, lambda: record)
    # Its frames are counted later: that may take to read all of it.
    with open_video(media.path):
        return Source(video_id, media.path, partial(bare_record, video_id, media.path))


def _ids(path: str, media: Sequence[Media]) -> dict[str, Media]:
    """Return video id -> media: their names, or their paths from the folder above all where names repeat."""
    names = [each.name for each in media]
    if _repeated(names):
        above = os.path.commonpath([os.path.dirname(each.path) for each in media])
        paths = [os.path.relpath(each.path, above).replace(os.sep, "/") for each in media]
        names = [stem(each) if media[place].is_file else each for place, each in enumerate(paths)]
    twice = _repeated(names)
    if twice:
        those = [each.path for each, name in zip(media, names) if alike(name) == twice]
        raise DataError(
            f"{path}: {len(those)} videos would have the id {twice}: {some(those)}; rename one, or name "
            "those to track by a pattern"
        )
    return dict(zip(map(alike, names), media))


def _repeated(names: Sequence[str]) -> str | None:
    ((name, count),) = Counter(map(alike, names)).most_common(1)
    return name if count > 1 else None


def _refuse_settings(settings: DatasetConfig, what: str) -> None:
    """Raise ConfigError for settings of datasets, which would be silently without effect."""
    given = [name for name in READING if getattr(settings, name) != default_of(DatasetConfig, name)]
    if given:
        told = ", ".join(f"{name}={getattr(settings, name)}" for name in given)
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{told}: means nothing to {what}, which has no annotations; leave out {options}")
