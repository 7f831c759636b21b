"""Write CVAT for video 1.1: annotations.xml with a track of masks per object.

Masks are exact: CVAT's own run lengths, row by row within a box. Polygons would lose holes and pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np

from sam2vt.core.data.formats.coco_identity import NO_NAME
from sam2vt.core.data.formats.cvat_task import XML
from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.output import Output, id_refusal
from sam2vt.core.storage.disk import write_whole

_FOLDER = "cvat"  # the reader wants a folder per task
_MOST_ID = 999_999_999  # nine digits, as our reader takes them
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _write(video: TrackedVideo, folder: Path) -> None:
    with (
        write_whole(folder / _FOLDER / video.name / XML) as written,
        written.open("w", encoding="utf-8") as file,
    ):
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(_meta(video))
        # A pass over the journal per object: tracks follow each other in the file, and memory stays flat.
        for key in video.object_ids:
            label = quoteattr(_text(video.names.get(key) or NO_NAME))
            file.write(f'<track id="{key - 1}" label={label} source="auto">\n')
            _write_track(file, video, key)
            file.write("</track>\n")
        file.write("</annotations>\n")


def _meta(video: TrackedVideo) -> str:
    labels = sorted({_text(video.names.get(key) or NO_NAME) for key in video.object_ids})
    listed = "".join(f"<label><name>{escape(each)}</name></label>" for each in labels)
    return (
        f"<meta><task><name>{escape(_text(video.video_id))}</name><size>{video.num_frames}</size>"
        "<mode>interpolation</mode><start_frame>0</start_frame>"
        f"<stop_frame>{video.num_frames - 1}</stop_frame><frame_filter></frame_filter>"
        f"<labels>{listed}</labels><original_size><width>{video.width}</width>"
        f"<height>{video.height}</height></original_size></task></meta>\n"
    )


def _text(name: str) -> str:
    """Return the name without the control characters that no XML may hold."""
    return _NO_XML.sub("_", name)


def _write_track(file: TextIO, video: TrackedVideo, key: int) -> None:
    last, was_visible = 'rle="0, 1" left="0" top="0" width="1" height="1"', None
    for frame, mask in _masks_of(video, key):
        is_visible = mask is not None
        if mask is not None:
            last = _shape(mask)
        # CVAT shows a shape until the next one of its track: where an object leaves, one says so.
        if is_visible or is_visible != was_visible:
            file.write(
                f'<mask frame="{frame}" keyframe="1" outside="{int(not is_visible)}" occluded="0" {last} '
                'z_order="0"></mask>\n'
            )
        was_visible = is_visible


def _masks_of(video: TrackedVideo, key: int) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield each frame with the object's mask; None if it is absent."""
    for frame, entries in video.entries(only=key):
        yield frame, entries[0].mask if entries and entries[0].area else None


def _shape(mask: np.ndarray) -> str:
    """Return the attributes of a mask: its box, and the lengths of runs of 0 and 1 in it, row by row."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask, dtype=np.uint8))
    pixels = mask[top : top + height, left : left + width].ravel()
    # The first run is of 0, and may be empty.
    edges = np.flatnonzero(np.diff(pixels, prepend=False, append=not pixels[-1]))
    counts = ", ".join(map(str, np.diff(edges, prepend=0)))
    return f'rle="{counts}" left="{left}" top="{top}" width="{width}" height="{height}"'


CVAT = Output(
    f"{_FOLDER}/<video>/{XML}, CVAT for video 1.1 with tracks of masks; overlaps stay",
    _write,
    refusal=partial(id_refusal, least=1, most=_MOST_ID + 1, what="a track of CVAT", instead="coco"),
)
