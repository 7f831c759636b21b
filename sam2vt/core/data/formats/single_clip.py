"""One clip without the level of videos: JPEGImages/* and Annotations/*, named by the folder around them.

Annotations holds a label image a frame, or a subfolder an object.
"""

from __future__ import annotations

import os

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, files_in
from sam2vt.core.data.formats.records import read_video, with_colours
from sam2vt.core.data.formats.tree import find_tree
from sam2vt.core.types import VideoRecord


def load_single_clip(frame_root: str, mask_root: str, options: ReadOptions) -> list[VideoRecord]:
    video_id = os.path.basename(os.path.dirname(frame_root))

    def build(root: str) -> VideoRecord:
        record = read_video(video_id, root, mask_root, options.look)
        return with_colours(record, options.colours)

    return options.records(build, [frame_root], lambda _: {"video": video_id})


def _recognise(path: str) -> Found | None:
    roots = find_tree(path)
    if roots is None or not files_in(roots[0], IMAGE_EXTENSIONS):
        return None
    return Found(
        "a single clip",
        f"images lie in {roots[0]} itself",
        lambda options: load_single_clip(*roots, options),
        takes=("colours",),
    )


LAYOUT = Layout("a single clip: JPEGImages/*.jpg with Annotations/*.png", _recognise)
