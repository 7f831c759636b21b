"""One clip without the level of videos: JPEGImages/* and Annotations/*, named by the folder around them.

Annotations holds a label image a frame, or a subfolder an object.
"""

from __future__ import annotations

import os

from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, files_in
from sam2vt.core.data.formats.records import record_from_frames
from sam2vt.core.types import VideoRecord


def is_single_clip(frame_root: str) -> bool:
    return bool(files_in(frame_root, IMAGE_EXTENSIONS))


def load_single_clip(frame_root: str, mask_root: str) -> list[VideoRecord]:
    video_id = os.path.basename(os.path.dirname(frame_root))
    return [record_from_frames(video_id, frame_root, mask_root)]
