"""Report on a data set: one HTML page without other files, with pictures of random clips."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sam2vt.core.data.checking.dataset import DatasetFindings
from sam2vt.core.data.checking.summary import COLUMN, format_summary
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.clips.drawing import draw_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.evaluation.drawing import draw_masks
from sam2vt.core.evaluation.pages import LIGHT, chart, empty_figure, html_page
from sam2vt.core.evaluation.palette import as_hex, colour_of
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import SampleKey, VideoRecord
from sam2vt.errors import ConfigError, DataError

_CLIPS, _FRAMES, _SIDE = 8, 6, 192
_MOST_FAULTS = 1000
_BINS = 24  # at most, of a histogram
_SEED = 0  # fixed: the page of unchanged data stays the same


def write_page(
    path: Path,
    found: DatasetFindings,
    numbers: dict[str, Any],
    records: Sequence[VideoRecord],
    check: VideoCheck,
) -> None:
    """Write the page over an older one. Raises ConfigError where it cannot be written."""
    checked = f"{numbers['videos']} videos could be looked into"
    verdict = f"No fault in {numbers['videos']} videos."
    if found.faults:
        verdict = f"<b>{len(found.faults)} faults</b> have to be mended; {checked}."
    sections = [
        ("content", "Content", _table(format_summary(found.path, numbers, check.depth)[1:])),
        ("sizes", "Lengths and sizes", "".join(_histograms(found))),
        ("faults", "Faults", "".join(_faults(found))),
        ("notes", "Notes", "".join(f"<p>{escape(note)}</p>" for note in found.notes)),
        ("clips", "Clips", "".join(_clips(records, check))),
    ]
    shown = [each for each in sections if each[-1]]
    page = html_page(escape(found.path), f'<p class="verdict">{verdict}</p>', shown)
    try:
        with write_whole(path) as written:
            written.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--report {path}: cannot be written: {error.strerror}; name another file"
        ) from None


def _table(lines: Sequence[str]) -> str:
    """Return the summary, whose names are before the column at which its values begin; else its sentence."""
    if len(lines) == 1:
        return f"<p>{escape(lines[0].strip())}</p>"
    rows = ((line[:COLUMN].strip(), line[COLUMN:]) for line in lines)
    cells = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in rows)
    return f'<div class="scroll"><table><tbody>{"".join(cells)}</tbody></table></div>'


def _histograms(found: DatasetFindings) -> Iterator[str]:
    """One chart each of how long videos are and how large objects are, where that is known."""
    frames = [video.num_frames for video in found.videos if not video.is_still]
    areas = [each.largest for video in found.videos for each in video.objects.values() if each.largest]
    charts = [_lengths(frames)] if frames else []
    charts += [_areas(areas)] if areas else []
    if charts:
        yield '<div class="grid">' + "".join(f'<div class="chart">{each}</div>' for each in charts) + "</div>"


@chart
def _lengths(frames: Sequence[int]) -> Figure:
    step = -(-(max(frames) - min(frames) + 1) // _BINS)
    edges = np.arange(min(frames) - 0.5, max(frames) + step, step)
    figure = _histogram("lengths", "Videos by length", frames, edges, "frames of a video")
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return figure


@chart
def _areas(pixels: Sequence[int]) -> Figure:
    low, high = min(pixels), max(pixels)
    is_wide = high >= 10 * low
    edges = (np.geomspace if is_wide else np.linspace)(low, high + 1, min(_BINS, len(pixels)) + 1)
    figure = _histogram("areas", "Objects by size", pixels, edges, "pixels of an object at its largest")
    if is_wide:
        figure.axes[0].set_xscale("log")
        figure.axes[0].xaxis.set_major_formatter("{x:,g}")
    return figure


def _histogram(name: str, title: str, values: Sequence[int], edges: Any, unit: str) -> Figure:
    figure, axes = empty_figure(name, title, 340, 250)
    axes.hist(values, bins=edges, color=LIGHT["bar"], edgecolor=LIGHT["paper"])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.set(title=title, xlabel=unit)
    return figure


def _faults(found: DatasetFindings) -> Iterator[str]:
    if not found.faults:
        return
    head = "".join(
        f"<th>{name}</th>" for name in ("video", "frame", "object", "what is wrong, and what to do")
    )
    yield f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
    for fault in found.faults[:_MOST_FAULTS]:
        cells = (fault.video, fault.frame, fault.object, fault.message)
        filled = "".join(f"<td>{'' if each is None else escape(str(each))}</td>" for each in cells)
        yield f"<tr>{filled}</tr>"
    yield "</tbody></table></div>"
    if len(found.faults) > _MOST_FAULTS:
        yield f"<p>and {len(found.faults) - _MOST_FAULTS} more; --json lists all.</p>"


def _clips(records: Sequence[VideoRecord], check: VideoCheck) -> Iterator[str]:
    """One row per clip, of random videos."""
    if not records:
        return
    aid = "Random clips as training draws them, squeezed to a square. Click one to enlarge it."
    yield f'<p class="aid">{aid}</p>'
    length, prompts = min(check.clip_length, _FRAMES), PromptGenerator(["mask"])
    spec = ClipSpec((_SIDE, _SIDE), length, prompts, seed=_SEED, frame_stride=check.frame_stride)
    for place in np.random.default_rng(_SEED).permutation(len(records))[:_CLIPS].tolist():
        record = records[place]
        try:
            clip = draw_clip([record], SampleKey(0, place), spec)
        except DataError as error:  # a fault of the data, which the page is there to show
            yield f"<figure><figcaption>{escape(record.video_id)}: {escape(str(error))}</figcaption></figure>"
            continue
        named = record.names_of(clip["object_ids"])
        names = [str(named.get(each, each)) for each in clip["object_ids"]]
        first, last = clip["frame_indices"][0], clip["frame_indices"][-1]
        shown = "a still" if record.is_still else f"frames {first} to {last}"
        text = escape(f"{record.video_id}, {shown}, objects {', '.join(names)}")
        legend = "".join(
            f' <span style="color:{as_hex(colour_of(n))}">\N{BLACK SQUARE}</span> {escape(name)}'
            for n, name in enumerate(names)
        )
        caption = f"<b>{escape(record.video_id)}</b>, {shown}:{legend}"
        picture = f'<img tabindex="0" alt="{text}" src="{_picture(clip)}">'
        yield f"<figure><figcaption>{caption}</figcaption>{picture}</figure>"


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
