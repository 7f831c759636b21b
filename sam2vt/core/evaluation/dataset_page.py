"""Report on a data set: one HTML page without other files, with pictures of random clips."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2vt.core.data.checking.dataset import DatasetFindings
from sam2vt.core.data.checking.summary import format_summary
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.clips.drawing import draw_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.evaluation.drawing import draw_masks
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import SampleKey, VideoRecord
from sam2vt.errors import ConfigError, DataError

_CLIPS, _FRAMES, _SIDE = 8, 6, 192
_MOST_FAULTS = 1000
_SEED = 0  # fixed: the page of unchanged data stays the same


def write_page(
    path: Path,
    found: DatasetFindings,
    numbers: dict[str, Any],
    records: Sequence[VideoRecord],
    check: VideoCheck,
) -> None:
    """Write the page over an older one. Raises ConfigError where it cannot be written."""
    _, *lines = format_summary(found.path, numbers, check.depth)
    verdict = f"No fault in {numbers['videos']} videos."
    if found.faults:
        checked = f"{numbers['videos']} videos could be looked into"
        verdict = f"<b>{len(found.faults)} faults</b> have to be mended; {checked}."
    parts = [
        f"<h1>{escape(found.path)}</h1>",
        f"<p class=verdict>{verdict}</p>",
        f"<h2>What it holds</h2><pre>{escape(chr(10).join(lines))}</pre>",
        *_faults(found),
        *_notes(found.notes),
        "<h2>Clips</h2>",
        "<p>Random clips as training draws them, squeezed to a square. An object keeps its colour.</p>",
        *_pictures(records, check),
    ]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(found.path)}</title>{_STYLE}"
    page = f"{head}<main>{''.join(parts)}</main></html>"
    try:
        with write_whole(path) as written:
            written.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--report {path}: cannot be written: {error.strerror}; name another file"
        ) from None


def _faults(found: DatasetFindings) -> Iterator[str]:
    if not found.faults:
        return
    yield "<h2>Faults</h2><table><tr><th>video<th>frame<th>object<th>what is wrong, and what to do"
    for fault in found.faults[:_MOST_FAULTS]:
        cells = (fault.video, fault.frame, fault.object, fault.message)
        yield "<tr>" + "".join(f"<td>{'' if each is None else escape(str(each))}" for each in cells)
    yield "</table>"
    if len(found.faults) > _MOST_FAULTS:
        yield f"<p>and {len(found.faults) - _MOST_FAULTS} more; --json lists all.</p>"


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def _pictures(records: Sequence[VideoRecord], check: VideoCheck) -> Iterator[str]:
    """One row per clip, of random videos."""
    length, prompts = min(check.clip_length, _FRAMES), PromptGenerator(["mask"])
    spec = ClipSpec((_SIDE, _SIDE), length, prompts, seed=_SEED, frame_stride=check.frame_stride)
    for place in np.random.default_rng(_SEED).permutation(len(records))[:_CLIPS].tolist():
        record = records[place]
        try:
            clip = draw_clip([record], SampleKey(0, place), spec)
        except DataError as error:  # a fault of the data, which the page is there to show
            yield f"<figure><figcaption>{escape(record.video_id)}: {escape(str(error))}</figcaption></figure>"
            continue
        names = record.object_names
        objects = ", ".join(str(names.get(each, each)) for each in clip["object_ids"])
        first, last = clip["frame_indices"][0], clip["frame_indices"][-1]
        shown = "a still" if record.is_still else f"frames {first} to {last}"
        text = escape(f"{record.video_id}, {shown}, objects {objects}")
        yield f'<figure><img alt="{text}" src="{_picture(clip)}"><figcaption>{text}</figcaption></figure>'


def _picture(clip: dict[str, Any]) -> str:
    """The frames side by side as a data URI: the page needs no other file."""
    places = {n: n for n in range(len(clip["object_ids"]))}
    frames = [
        draw_masks(np.ascontiguousarray(image.transpose(1, 2, 0)), dict(enumerate(masks)), places)
        for image, masks in zip(clip["images"], clip["masks"])
    ]
    gap = np.full((_SIDE, 2, 3), 255, np.uint8)
    row = np.hstack([part for frame in frames for part in (frame, gap)][:-1])
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(row, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


_STYLE = """<style>
:root{color-scheme:light dark}
body{margin:0;font:16px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:24px 16px}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:28px 0 8px}
.verdict{font-size:1.15rem}
th{white-space:nowrap}pre{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:4px 12px 4px 0;overflow-wrap:anywhere;
border-bottom:1px solid #8884}
figure{margin:0 0 20px}img{width:100%;height:auto;display:block}
figcaption{font-size:.85rem;opacity:.75;overflow-wrap:anywhere}
</style>"""
