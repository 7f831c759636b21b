"""Check whether clips of sparsely annotated videos can contain two annotated frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from sam2vt.core.types import VideoRecord

_LOOKED_AT = 1000  # videos that are looked at before a start, of any number


def lacking_gap(annotated: Sequence[int], length: int, strides: Iterable[int]) -> int | None:
    """Return None if some clip of `length` frames, at one of these strides, contains two annotated frames.

    Else the usual number of frames from one annotated frame to the next; 0 if there is only one.
    """
    known, steps = set(annotated), {k * stride for stride in strides for k in range(1, length)}
    if any(frame + step in known for frame in annotated for step in steps):
        return None
    gaps = Counter(after - before for before, after in pairwise(annotated))
    return gaps.most_common(1)[0][0] if gaps else 0


@dataclass
class Sparse:
    """Counts of videos whose clips contain at most one annotated frame, so that none is left to score."""

    length: int
    stride: int
    num_videos: int = 0  # that were looked at, stills left out
    names: list[str] = field(default_factory=list)
    gaps: Counter[int] = field(default_factory=Counter)  # of `names`, that are not 0

    def add(self, name: str, gap: int | None) -> None:
        """Count a video by what `lacking_gap` returned."""
        self.num_videos += 1
        if gap is not None:
            self.names.append(name)
            self.gaps.update([gap] if gap else [])

    @property
    def is_all(self) -> bool:
        """Whether no video has a clip that can be scored."""
        return bool(self.names) and len(self.names) == self.num_videos

    def text(self, length: str = "video_clip_length", stride: str = "frame_stride") -> str:
        """Return the fault and its remedy; the arguments are the names of the two settings."""
        what = (
            f"{len(self.names)} of {self.num_videos} videos (such as {self.names[0]}): no clip of "
            f"{self.length} frames at stride {self.stride} holds a second annotated frame"
        )
        if not self.gaps:
            return f"{what}, since they have only one: annotate more frames, or leave these videos out"
        (gap, _), *_ = self.gaps.most_common(1)
        # Both reach the next annotated frame; a longer clip costs more memory.
        longer = f", or {length}={gap // self.stride + 1}" if gap % self.stride == 0 else ""
        return f"{what}: most are {gap} frames apart; set {stride}={gap}{longer}"


def find_sparse(records: Iterable[VideoRecord], length: int, stride: int, last_stride: int | None) -> Sparse:
    """Return the counts of the first thousand videos, without reading a mask.

    Strides are drawn from `stride` to `last_stride`, or are always `stride`.
    """
    found, strides = Sparse(length, stride), range(stride, (last_stride or stride) + 1)
    for record in islice(records, _LOOKED_AT):
        if not record.is_still and length > 1:
            found.add(record.video_id, lacking_gap(record.annotated_frames, length, strides))
    return found
