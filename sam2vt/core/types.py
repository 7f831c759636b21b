"""Define the types that the rooms exchange: a record becomes a clip, clips become a batch.

Shape legend: B clips, T frames of a clip, N object slots of the batch (padded), O real objects of
the batch (packed), H x W the model's square input, h x w = H/4 x W/4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:  # decoders know these types and do without torch, which takes half a GB of memory
    import torch
    from typing_extensions import NotRequired


class Prompt(TypedDict, total=False):
    """A prompt for one object on one frame.

    Points are pixels of the model's H x W input. Labels: 1 positive, 0 negative, 2 and 3 the top left
    and bottom right corner of a box. A box prompt is two points with labels 2 and 3.
    """

    type: str  # "point", "box" or "mask"
    point_coords: torch.Tensor  # float32 [P, 2], (x, y) in pixels
    point_labels: torch.Tensor  # int32 [P]
    mask: torch.Tensor  # bool [H, W], for type "mask"
    object_index: int  # slot of the object in its clip; default: the prompt's place in the list
    frame_index: int  # frame of the clip on which it is given; default 0


class Clip(TypedDict):
    """One drawn clip of a video: an item of a dataset."""

    images: NotRequired[torch.Tensor]  # uint8 [T, 3, H, W], RGB; or features in their place
    features: NotRequired[list[torch.Tensor]]  # bf16 [T, C, h, w] per level, finest first; of a feature cache
    masks: torch.Tensor  # bool [T, N, H, W]
    valid_masks: torch.Tensor  # bool [T, N]: the object's mask on that frame is known
    prompts: list[Prompt]  # at least one per object, each with object_index and frame_index
    video_id: str
    frame_indices: list[int]  # [T], of the source video
    object_ids: list[int]  # [N], of the source annotation
    original_size: tuple[int, int]  # (height, width) in pixels
    num_objects: int
    quarantined: NotRequired[dict[str, Any]]  # in a blank clip: epoch, index, video_id, source, error


class BatchExtras(TypedDict, total=False):
    """Fields that only some batches have."""

    update: dict[str, int]  # of all batches of its update: their number, and their entries that count
    quarantined: list[dict[str, Any]]  # samples that could not be read, each replaced by a blank clip


class Batch(BatchExtras):
    """Stacked clips, with object slots padded to the largest clip; other fields are lists over B."""

    images: NotRequired[torch.Tensor]  # uint8 [B, T, 3, H, W]; or features in their place
    features: NotRequired[list[torch.Tensor]]  # bf16 [B, T, C, h, w] per level, finest first
    masks: torch.Tensor  # bool [B, T, N, H, W]
    valid_masks: torch.Tensor  # bool [B, T, N]; false in padded slots
    prompts: list[list[Prompt]]
    video_id: list[str]
    frame_indices: list[list[int]]
    object_ids: list[list[int]]
    original_size: list[tuple[int, int]]
    num_objects: list[int]


class FrameAnnotation:
    """A reference to the masks of one frame. Each subclass is a kind, with a row in `masks.loading.KINDS`."""

    def files(self) -> tuple[str, ...]:
        """Return the paths of all files with its masks."""
        return ()

    def object_ids(self) -> frozenset[int] | None:
        """Return the ids of its objects; None if only the masks themselves contain them."""
        return None


@dataclass(frozen=True)
class LabelImage(FrameAnnotation):
    """All masks of a frame in one image; `coding` names the meaning of its pixels (masks/codings.py)."""

    path: str
    coding: str = "ids"  # object ids; or "mots", "colours", "palette", "ctc"
    markers: str | None = None  # of "ctc": the image whose values name the objects

    def files(self) -> tuple[str, ...]:
        return (self.path,) if self.markers is None else (self.path, self.markers)


@dataclass(frozen=True)
class ObjectImages(FrameAnnotation):
    """One binary PNG per object."""

    paths: dict[int, str]

    def files(self) -> tuple[str, ...]:
        return tuple(self.paths.values())

    def object_ids(self) -> frozenset[int]:
        return frozenset(self.paths)


@dataclass(frozen=True)
class Segmentations(FrameAnnotation):
    """COCO segmentations (RLE dicts or lists of polygons) per object, and void; they are united."""

    objects: dict[int, list[Any]]
    void: list[Any] = field(default_factory=list)

    def object_ids(self) -> frozenset[int]:
        return frozenset(self.objects)


@dataclass(frozen=True)
class Figures(FrameAnnotation):
    """Supervisely's figures (bitmaps and polygons with holes) per object; they are united."""

    objects: dict[int, list[dict[str, Any]]]

    def object_ids(self) -> frozenset[int]:
        return frozenset(self.objects)


@dataclass(frozen=True)
class MaskletFrame(FrameAnnotation):
    """The place of a frame in SA-V masklet files, which are read when its masks are needed.

    An object's id is that of its masklet plus one, counted on in further files.
    """

    paths: tuple[str, ...]  # of JSON files
    place: int  # among the annotated frames

    def files(self) -> tuple[str, ...]:
        return self.paths


@dataclass(frozen=True)
class PackedMasks(FrameAnnotation):
    """A frame whose masks are stored in the row of `VideoRecord.packed` that contains the frame."""


@dataclass(frozen=True)
class PackedVideo:
    """The rows of Parquet shards with a video; each row is a segment of consecutive frames.

    Segment k begins with frame k * segment_frames. With `file`, the video is a file with this ending and
    number of bytes, and each row contains a slice of it; with None, rows contain an encoded image per frame.
    """

    root: str  # the shards' folder, or its URI
    segment_frames: int
    rows: tuple[tuple[str, int, int], ...]  # shard, its first row, how many: in the order of the segments
    file: tuple[str, int] | None = None
    coco: bool = False  # the masks come from a COCO JSON
    video_id: str | None = None  # that of the rows, where the record has another


@dataclass(frozen=True)
class VideoRecord:
    """References to one video and its masks, without frames or masks themselves.

    Frames come from `frame_paths` (one image per frame), from `video_path` (a video file) or from `packed`
    (rows of shards); exactly one is set. `annotations` maps frame indices to references to masks. Indices
    always count from the start of the whole video; a frame without an entry is not annotated. `frame_range`
    limits the usable frames to start <= i < stop, so that two splits of one video never share a frame.
    """

    video_id: str
    num_frames: int
    height: int
    width: int
    annotations: dict[int, FrameAnnotation]
    frame_paths: tuple[str, ...] | None = None
    video_path: str | None = None
    object_ids: tuple[int, ...] | None = None  # all ids, where the layout knows them without scanning
    frame_range: tuple[int, int] | None = None
    source: str = ""  # the folder or JSON it was read from, for messages
    packed: PackedVideo | None = None
    is_still: bool = False  # one image, whose clips a moving camera draws
    member: int | None = None  # the number of its dataset in a mixture
    object_names: dict[int, Any] = field(default_factory=dict)  # object id -> its class, or name
    object_list: str | None = None  # the file that lists the objects, for messages
    intensity_range: tuple[float, float] | None = None  # values of frames above 8 bits that become 0 and 255
    classes: dict[int, str] | None = None  # of the coding "mots": class number -> name
    colours: dict[str, tuple[int, int, int]] | None = None  # of the coding "colours": class -> RGB
    parents: dict[int, int] | None = None  # of cell tracking: object id -> the cell that it was part of

    def __post_init__(self) -> None:
        sources = (self.frame_paths, self.video_path, self.packed)
        assert sum(each is not None for each in sources) == 1, self.video_id
        assert self.frame_paths is None or len(self.frame_paths) == self.num_frames, self.video_id

    @property
    def from_coco(self) -> bool:
        """Whether its masks come from a COCO JSON; CVAT's segmentations come from an XML."""
        if self.packed is not None:
            return self.packed.coco
        first = next(iter(self.annotations.values()), None)
        return isinstance(first, Segmentations) and self.source.lower().endswith(".json")

    @property
    def frames(self) -> range:
        """The indices of the frames that may be used."""
        start, stop = self.frame_range or (0, self.num_frames)
        return range(start, stop)

    @property
    def annotated_frames(self) -> list[int]:
        """The indices of the usable frames whose masks are known, in time order."""
        return [i for i in self.frames if i in self.annotations]

    def names_of(self, object_ids: Iterable[int]) -> dict[int, Any]:
        """Return the names, or classes, of those of these objects that have one."""
        classes = self.classes or {}  # class * 1000 + instance is an object
        names = {each: self.object_names.get(each, classes.get(each // 1000)) for each in object_ids}
        return {each: name for each, name in names.items() if name is not None}


@dataclass(frozen=True)
class SampleKey:
    """The draw of a clip in an epoch: everything random about it depends only on (seed, epoch, index)."""

    epoch: int
    index: int  # 0 <= index < number of videos x clips_per_video; the video is index % number of videos
