"""Specify clips: sizes, strides, objects and prompts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from sam2vt.config import AugmentConfig, Config, DatasetConfig, ModelConfig
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.frames.feature_cache import FeatureCache
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError
from sam2vt.settings import require, settings_of, wrong_values


@dataclass(frozen=True)
class ClipSpec:
    """How clips are drawn. Raises ConfigError naming an invalid field."""

    image_size: tuple[int, int]  # (H, W) in pixels, square, a multiple of 32
    clip_length: int  # T
    prompts: PromptGenerator
    seed: int = 0
    frame_stride: int = 1  # frames of the video from one frame of the clip to the next
    max_frame_stride: int | None = None  # drawn per clip, from frame_stride on; None: always frame_stride
    reverse_probability: float = 0.0  # that a clip runs backwards
    min_object_pixels: int = 0  # of the video: objects that stay smaller in a clip are left out of it
    object_sampling: str = "uniform"  # which objects are kept where there are more than max_objects
    max_objects: int | None = None  # None: all that are visible
    max_conditioning_frames: int = 1
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # how a clip is altered before its prompts
    features: FeatureCache | None = None  # read instead of images
    sets: tuple[ClipSpec, ...] = ()  # of a mixture: how clips of each of its sets are drawn

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))
        require(DatasetConfig, "image_size", self.image_size)
        require(ModelConfig, "image_size", self.image_size[0], "image_size")
        require(Config, "seed", self.seed)
        if self.max_frame_stride is not None and self.max_frame_stride < self.frame_stride:
            raise ConfigError(
                f"max_frame_stride={self.max_frame_stride}: must be at least frame_stride={self.frame_stride}"
            )
        require(DatasetConfig, "video_clip_length", self.clip_length, "clip_length")
        require(Config, "max_objects", self.max_objects)
        for name in DRAWN_AS_CONFIGURED:
            require(DatasetConfig, name, getattr(self, name))
        for name, value, text in wrong_values(self.augment):
            raise ConfigError(f"augment.{name}={value!r}: {text}")

    def of(self, record: VideoRecord) -> ClipSpec:
        """Return the specification for clips of this video."""
        return self if record.member is None or not self.sets else self.sets[record.member]

    def reading(self, features: FeatureCache) -> ClipSpec:
        """Return the same clips with features instead of images."""
        return replace(self, features=features, sets=tuple(each.reading(features) for each in self.sets))

    @property
    def span(self) -> int:
        """Number of frames of the video that a whole clip spans."""
        return (self.clip_length - 1) * self.frame_stride + 1


# The settings of a dataset that a spec takes under their own names; `augment` is a group of its own.
DRAWN_AS_CONFIGURED = tuple(each.name for each in fields(ClipSpec) if each.name in settings_of(DatasetConfig))
