"""How frames are written by a conversion."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sam2vt.core.data.encoding import Encoding, parse_encoding
from sam2vt.errors import ConfigError


@dataclass(frozen=True)
class ConvertOptions:
    """`encode` is for frames of video files; images stay as they are. `fps` is of videos that are written."""

    encode: str = "jpeg:95"
    link: bool = False  # hard links in place of copies
    fps: float = 24.0

    def __post_init__(self) -> None:
        if self.encoding.kind == "keep":
            raise ConfigError(
                "--encode keep: images are kept as they are without it; frames of video files become png or "
                "jpeg:<quality>"
            )
        if not (math.isfinite(self.fps) and self.fps >= 1):
            raise ConfigError(f"--fps {self.fps}: has to be at least 1 frame a second")

    @property
    def encoding(self) -> Encoding:
        return parse_encoding(self.encode)
