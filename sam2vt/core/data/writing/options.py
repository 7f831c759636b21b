"""How frames are written by a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from sam2vt.core.data.writing.encoding import Encoding, parse_encoding
from sam2vt.errors import ConfigError

_MOST_FPS = 1000  # what players show; encoders refuse some rates beyond


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
        if not 1 <= self.fps <= _MOST_FPS:  # so is NaN
            raise ConfigError(
                f"--fps {self.fps}: has to be at least 1 and at most {_MOST_FPS} frames a second: give the "
                "rate at which the video is to be shown, such as 24; every frame is written at any rate"
            )

    @property
    def encoding(self) -> Encoding:
        return parse_encoding(self.encode)
