"""Where the frames of a video file lie in time, and from which key frame each is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FrameIndex:
    """Presentation times of the F frames, in order, and of the K key frames, with where to seek.

    `times` is None where times do not tell frames apart: frames are then counted from the start.
    """

    num_frames: int
    times: np.ndarray | None  # int64 [F], strictly rising, in the stream's time base
    key_times: np.ndarray  # int64 [K], rising
    key_seeks: np.ndarray  # int64 [K], decoding times: containers are searched by them

    def key_place(self, target: int) -> int:
        """Which key frame to decode from to get frame `target`; 0: from the start of the file."""
        if self.times is None:
            return 0
        return max(0, int(np.searchsorted(self.key_times, self.times[target], side="right")) - 1)

    def first_frame(self, key: int) -> int:
        """The first frame that is complete when decoding begins at this key frame."""
        if self.times is None or key == 0:
            return 0
        return int(np.searchsorted(self.times, self.key_times[key]))

    def key_of(self, time: int | None, last: int) -> int | None:
        """Which of the key frames 1 to `last` has this time; None: none of them."""
        for key in range(last, 0, -1):
            if self.key_times[key] == time:
                return key
        return None
