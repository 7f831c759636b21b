"""The pictures that the best and the default trial drew, side by side."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from sam2vt.distributed.sweep.report import markup
from sam2vt.distributed.sweep.report.verdict import scores
from sam2vt.distributed.sweep.trials import DEFAULT, SweepResult, Trial

Pictures = Mapping[int, Sequence[tuple[str, bytes]]]  # by number of trial, each a name and its bytes
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif"}


def side_by_side(result: SweepResult, overlays: Pictures) -> str:
    """The pictures of the best trial beside the default's, a row a video and kind."""
    trials = {trial.number: trial for trial in (result.best, result.default) if trial is not None}
    of = {number: dict(overlays.get(number, ())) for number in trials}
    names = sorted({name for pictures in of.values() for name in pictures}, key=_video_first)
    if not names:
        return '<p class="none">Neither the best nor the default trial has left pictures.</p>'
    rows: list[str] = []
    videos: set[str] = set()
    for name in names:
        heading = "" if _video(name) in videos else f"<h3>{markup.text(_video(name))}</h3>\n"
        videos.add(_video(name))
        figures = [_picture(trials[number], of[number].get(name), result) for number in trials]
        rows.append(f'{heading}<div class="pair">{"".join(figures)}</div>')
    aid = "Ground truth and prediction of the same video, best and default. Click a picture to enlarge it."
    return f'<p class="aid">{aid}</p>\n' + "\n".join(rows)


def _picture(trial: Trial, content: bytes | None, result: SweepResult) -> str:
    role = "default" if trial.number == DEFAULT else "best"
    kind = next((kind for magic, kind in _KINDS.items() if content and content.startswith(magic)), None)
    if content is None:
        shown = '<p class="none">This trial has no such picture.</p>'
    elif kind is None:
        shown = '<p class="none">This file is neither a PNG nor a GIF.</p>'
    else:
        data = base64.b64encode(content).decode()
        shown = f'<img tabindex="0" alt="overlays of {trial.name}" src="data:image/{kind};base64,{data}">'
    caption = f'<b class="{role}">{role}</b> {trial.name}, {scores(trial, result)}'
    return f"<figure><figcaption>{caption}</figcaption>{shown}</figure>"


def _video_first(name: str) -> tuple[str, str]:
    stem, _, ending = name.rpartition(".")
    return stem, ending


def _video(name: str) -> str:
    """Overlays are named by their video's id, quoted."""
    return unquote(name.rpartition(".")[0])
