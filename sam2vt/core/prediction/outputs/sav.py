"""Write SA-V: <video>_manual.json, with a masklet per object and every frame annotated."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sam2vt.core.data.formats.sav import ENDINGS
from sam2vt.core.data.writing.sav import MaskletVideo, write_masklets
from sam2vt.core.prediction.journal import TrackedVideo
from sam2vt.core.prediction.outputs.output import Output, id_refusal


def _write(video: TrackedVideo, folder: Path) -> None:
    size = (video.height, video.width)
    masklets = MaskletVideo(video.name, video.num_frames, size, video.fps, video.object_ids, video.names)
    frames = ({each.object_id: each.rle for each in entries} for _, entries in video.entries())
    write_masklets(folder / f"{video.name}{ENDINGS[0]}", masklets, frames)


SAV = Output(
    f"<video>{ENDINGS[0]}, masklets as SA-V has them, to be put beside <video>.mp4; overlaps stay",
    _write,
    refusal=partial(id_refusal, least=1, most=2**53, what="a masklet", instead="coco"),
)
