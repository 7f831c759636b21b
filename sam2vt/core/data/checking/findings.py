"""Findings of a check: faults with their places, and numbers about a video."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam2vt.errors import DataError


@dataclass(frozen=True)
class DataFault:
    """A fault that prevents training on this data."""

    message: str  # what was got, what is allowed, what to do
    video: str | None = None  # None: of the dataset as a whole
    frame: int | None = None  # of the video, from 0 on
    object: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        named = {"video": self.video, "frame": self.frame, "object": self.object}
        places = [f"{name} {value}" for name, value in named.items() if value is not None]
        unsaid = ", ".join(place for place in places if place not in self.message)
        return f"{unsaid}: {self.message}" if unsaid else self.message

    @classmethod
    def of(cls, error: DataError) -> DataFault:
        return cls(str(error), **error.place)


@dataclass
class ObjectNumbers:
    """On how many frames and pixels an object is visible. Areas are in pixels of the video."""

    name: str
    frames: int = 0  # on which it is visible
    first_frame: int = 0
    last_frame: int = 0
    smallest: int = 0
    largest: int = 0

    def add(self, frame: int, area: int) -> None:
        self.first_frame = self.first_frame if self.frames else frame
        self.last_frame = frame
        self.smallest = min(self.smallest, area) if self.frames else area
        self.largest = max(self.largest, area)
        self.frames += 1


@dataclass
class VideoFindings:
    """Findings of one video, or of one still."""

    video: str
    source: str
    kind: str  # such as "jpg images", "mp4, h264"
    num_frames: int
    num_annotated: int
    height: int
    width: int
    num_clips: int  # windows of T frames at the stride that hold an annotated frame
    fingerprint: str  # of its first frame's file; the same for two videos that begin alike
    lacking_gap: int | None = None  # where no clip holds a second annotated frame, see `lacking_gap`
    is_still: bool = False  # one image, whose clips are drawn by a motion of the camera
    objects: dict[int, ObjectNumbers] = field(default_factory=dict)  # empty where no mask was read
    faults: list[DataFault] = field(default_factory=list)
    decoded_frames: int = 0
    decode_seconds: float = 0.0

    @property
    def trackable(self) -> list[ObjectNumbers]:
        """Objects with a frame to prompt and another to track to; clips of stills always have both."""
        return [each for each in self.objects.values() if each.frames > 1 or self.is_still]
