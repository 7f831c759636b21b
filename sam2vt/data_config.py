"""Declare the settings of a dataset: how clips and prompts are drawn from it and augmented.

`sam2vt.config` offers them with all others; import them from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple

from sam2vt.settings import (
    PROMPT_TYPES,
    Rule,
    at_least,
    make_pair,
    one_of,
    range_within,
    remember_given,
    setting,
    within,
)

_SHARE, _PROBABILITY, _ZOOM = within(0, 1), within(0, 1, "probability"), range_within(0.1, 10)
BY_COLOUR = "palette"  # of `colours`: the colours are those of the masks' own palettes


def _are_colours(value: Any) -> bool:
    if value is None or value == BY_COLOUR:
        return True
    whole = lambda colour: isinstance(colour, (list, tuple)) and all(type(each) is int for each in colour)  # noqa: E731
    return isinstance(value, dict) and all(map(whole, value.values()))


_COLOURS = Rule(_are_colours, f"a mapping of names to lists of whole numbers, or {BY_COLOUR}")
_FRAMES, _CLIPS = at_least(1, "frames"), at_least(1, "clips")

# Settings of a dataset by which its files are read; verbs take them as options.
READING = ("dataset_type", "identity", "image_root", "allow_absolute_paths", "colours")


@dataclass
class AugmentConfig:
    """How clips are augmented; the defaults change nothing."""

    # From several clips.
    mosaic_probability: float = setting(0.0, "Put four clips into a 2 x 2 grid.", _PROBABILITY)
    paste_probability: float = setting(0.0, "Paste another clip's object over it.", _PROBABILITY)
    # The same motion for all frames of a clip, and for their masks.
    flip_probability: float = setting(0.0, "Flip left to right.", _PROBABILITY)
    degrees: float = setting(0.0, "Rotate by up to this, in both directions.", within(0, 180, "degrees"))
    translate: float = setting(0.0, "Shift by up to this share of the frame, in x and y.", _SHARE)
    scale: Tuple[float, float] = setting((1.0, 1.0), "Zoom about the centre.", _ZOOM)
    shear: float = setting(0.0, "Shear by up to this along x, in both directions.", within(0, 60, "degrees"))
    crop_area: Tuple[float, float] = setting(
        (1.0, 1.0), "Share of the frame that is cut out and enlarged to fill it.", range_within(0.01, 1)
    )
    crop_ratio: Tuple[float, float] = setting((1.0, 1.0), "Aspect ratio of the crop, x to y.", _ZOOM)
    scale_jitter: Tuple[float, float] = setting((1.0, 1.0), "Zoom about a random place.", _ZOOM)
    # The same colours for all frames of a clip.
    brightness: float = setting(0.0, "Brightness of the clip; 0.1 is a factor from 0.9 to 1.1.", _SHARE)
    contrast: float = setting(0.0, "Contrast of the clip, as a factor.", _SHARE)
    saturation: float = setting(0.0, "Saturation of the clip, as a factor.", _SHARE)
    hue: float = setting(0.0, "Hue shift of the clip, as a share of the colour circle.", within(0, 0.5))
    grayscale_probability: float = setting(0.0, "Turn the clip gray.", _PROBABILITY)
    # Drawn per frame.
    frame_brightness: float = setting(0.0, "Brightness of each frame, as a factor.", _SHARE)
    frame_contrast: float = setting(0.0, "Contrast of each frame, as a factor.", _SHARE)
    frame_saturation: float = setting(0.0, "Saturation of each frame, as a factor.", _SHARE)
    blur_probability: float = setting(0.0, "Blur a frame.", _PROBABILITY)
    blur_sigma: Tuple[float, float] = setting(
        (0.5, 2.0), "Standard deviation of the blur.", range_within(0.1, 10, "pixels")
    )
    noise_probability: float = setting(0.0, "Add noise to a frame.", _PROBABILITY)
    noise_std: Tuple[float, float] = setting(
        (0.01, 0.05), "Standard deviation of the noise, for colours from 0 to 1.", range_within(0, 1)
    )
    jpeg_probability: float = setting(0.0, "Compress a frame as JPEG.", _PROBABILITY)
    jpeg_quality: Tuple[int, int] = setting((30, 90), "Quality of the JPEG.", range_within(1, 100))

    def __post_init__(self) -> None:
        for each in ("scale", "crop_area", "crop_ratio", "scale_jitter", "blur_sigma", "noise_std"):
            make_pair(self, each, "(least, most)")
        make_pair(self, "jpeg_quality", "(least, most)")


@remember_given
@dataclass
class DatasetConfig:
    """A dataset and how clips and prompts are drawn from it."""

    dataset_type: str = setting(
        "auto",
        "Layout of the dataset; auto finds it from data_path.",
        one_of("auto", "video", "coco", "mots", "ctc", "cvat", "labelme", "supervisely"),
    )
    data_path: str = setting(
        "", "A folder of videos, a COCO JSON, a record table or a pack; a pack may be a URI.", path="input"
    )
    image_size: Tuple[int, int] = setting(
        (512, 512),
        "[S, S]; it follows model.image_size.",
        Rule(lambda v: v[0] == v[1], "square, [S, S] with S = model.image_size", unit="pixels"),
    )
    video_clip_length: int = setting(5, "Frames per clip.", _FRAMES)
    batch_size: int = setting(1, "Clips per batch on each device.", _CLIPS)
    num_workers: int = setting(4, "Data-loader workers; 0 loads in the training process.", at_least(0))
    shuffle: bool = setting(True, "Draw the clips in a new order in each epoch.")
    prompt_types: List[str] = setting(
        ["point", "box", "mask"],
        "Kinds of prompt; one is drawn per object, a repeated kind more often.",
        PROMPT_TYPES,
    )
    num_of_pos_points: int = setting(
        1, "Positive points of a point prompt: exactly n for COCO, 1 to n for other videos.", at_least(1)
    )
    num_of_neg_points: int = setting(0, "Negative points of a point prompt.", at_least(0))
    include_center_point: bool = setting(False, "One of the positive points is the mask's centre.")
    clips_per_video: int = setting(1, "Clips drawn per video and epoch.", _CLIPS)
    frame_stride: int = setting(1, "Frames from one frame of a clip to the next.", _FRAMES)
    max_frame_stride: Optional[int] = setting(
        None, "Longest stride drawn per clip, from frame_stride on; null: always frame_stride.", _FRAMES
    )
    reverse_probability: float = setting(0.0, "Play a clip backwards.", _PROBABILITY)
    min_object_pixels: int = setting(
        0, "Objects that stay smaller in a clip are left out of it.", at_least(0, "pixels of the video")
    )
    object_sampling: str = setting(
        "uniform",
        "Choice if there are more than max_objects: uniform, by frames (visible) or by area (large).",
        one_of("uniform", "visible", "large"),
    )
    max_conditioning_frames: int = setting(
        1, "An object is prompted on 1 to this many frames of a clip, drawn per clip.", _FRAMES
    )
    identity: str = setting(
        "error",
        "COCO without track ids: refuse, one object per category, or match by IoU.",
        one_of("error", "category", "iou"),
    )
    image_root: Optional[str] = setting(
        None, "COCO: folder that file_name is relative to; null: the JSON's folder.", path="local input"
    )
    allow_absolute_paths: bool = setting(False, "COCO: allow files outside the JSON's folder and image_root.")
    # Any: a mapping of lists of whole numbers, or a word.
    colours: Any = setting(
        None,
        "Colour-coded masks: {class: [red, green, blue], background: [0, 0, 0]}; palette: each colour of "
        "palette images is an object, whatever its index.",
        _COLOURS,
    )
    feature_cache: Optional[str] = setting(
        None,
        "Cache of a frozen encoder's features, read instead of images: a folder, a URI, or auto.",
        Rule(bool, "a folder, a URI, auto, or null for none"),
        path="output",
    )
    # Any: OmegaConf has no type for a list of mappings with keys of several types.
    datasets: Any = setting(
        [], "Several sets instead of data_path: [{data_path: a, weight: 3}, {data_path: b, weight: 1}]."
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        make_pair(self, "image_size", "(height, width)")

    @property
    def is_given(self) -> bool:
        """Whether the section names data."""
        return bool(self.data_path or self.datasets)


@remember_given
@dataclass
class ValDatasetConfig(DatasetConfig):
    """The validation set; without its own data it uses the training set, divided by `split`."""

    shuffle: bool = setting(False, "Must stay false: validation compares the same clips every time.")
    prompt_types: List[str] = setting(["mask"], "As for dataset.", PROMPT_TYPES)
    num_of_pos_points: int = setting(1, "Positive points of a point prompt, exactly this many.", at_least(1))
    feature_cache: Optional[str] = setting(
        None, "Must stay null.", Rule(lambda v: False, "null: validation reads images"), path="output"
    )
    score_first_and_last: bool = setting(False, "Score the first and last frames, which DAVIS does not.")
