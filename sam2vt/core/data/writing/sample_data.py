"""Generate a small dataset: textured objects that move, deform, cross, leave and come back.

Big, brightly patterned objects over muted backgrounds, a few pixels of motion per frame: a network of one
or two million parameters learns it in minutes, while repeating the first mask fails.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.data.writing.sprites import HELD_OUT_SHAPES, SHAPES
from sam2vt.core.data.writing.textures import HELD_OUT_TEXTURES, TEXTURES
from sam2vt.core.data.writing.varied import Ingredients, draw_varied_scene
from sam2vt.core.storage.disk import unwritable
from sam2vt.errors import ConfigError, DataError

_FRAMES_PER_SECOND = 12
PLAIN = "plain"
# No texture or shape is in both.
INGREDIENTS = {
    "varied": Ingredients(TEXTURES, SHAPES),
    "held-out": Ingredients(HELD_OUT_TEXTURES, HELD_OUT_SHAPES),
}
STYLES = (PLAIN, *INGREDIENTS)
_PALETTE = (0, 0, 0, 228, 60, 50, 60, 110, 230)  # background and objects 1 and 2
_FURTHER = (60, 180, 90)  # object 3, which plain videos do not have
_MAX_TRIES = 3000
# Scenes are judged at 40 times, on small masks, before one is drawn in full.
_TRIAL_TIMES = np.linspace(0, 1, 40)
_TRIAL_HEIGHT = 24
_AREA = (0.12, 0.15)  # of an object, as a share of the image
_ROUNDING = 0.06  # half the time over which a path's corner is rounded
_PATTERNS = ("stripes", "checks", "dots", "rings")
# What the masks follow of the two objects of a video, the one behind and the one in front, in turn.
_FOLLOWED = (("behind", "front"), ("front",), ("behind",))


def write_sample_data(
    out: Path | str,
    num_videos: int = 3,
    num_frames: int = 60,
    size: tuple[int, int] = (192, 256),
    seed: int = 0,
    style: str = PLAIN,
) -> None:
    """Write `num_videos` videos with masks under `out`.

    Plain ones have two objects each. The masks follow both in the first video. In the second they follow
    the one in front, which leaves and comes back, in the third the one behind, which is crossed. Videos of
    style "varied" are those of `varied.py`. "held-out" has textures and shapes that no varied video has.

    Every second video is an mp4, the others are folders of jpg; masks are palette PNGs whose values are
    object ids. `size` is (height, width) in pixels, both even. The motion always takes the whole video:
    from 40 frames on it is a few pixels per frame, and repeating the first mask reaches a mean J of at
    most 0.35 in each plain video. The same arguments write the same files. Raises ConfigError for arguments
    that cannot be used, DataError if `out` already holds something or cannot be written.
    """
    out = Path(out)
    _check_arguments(out, num_videos, num_frames, size, style)
    for i in range(num_videos):
        rng = np.random.default_rng(np.random.SeedSequence([seed, i]))
        scene: Drawable
        if style == PLAIN:
            scene = draw_scene(rng, num_frames, size, _FOLLOWED[i % len(_FOLLOWED)])
        else:
            scene = draw_varied_scene(rng, num_frames, size, INGREDIENTS[style])
        try:
            _write_scene(out, f"sample_{i:02d}", scene, as_mp4=i % 2 == 1)
        except OSError as error:
            begun = "; remove what was written, which is incomplete" if out.exists() else ""
            raise DataError(f"{unwritable(out, error)}{begun}") from None


class Drawable(Protocol):
    """A scene of any style."""

    @property
    def num_frames(self) -> int:
        """Of the video."""

    def frame(self, frame_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, uint8 [h, w, 3], and its labels, uint8 [h, w]."""


def _check_arguments(out: Path, num_videos: int, num_frames: int, size: tuple[int, int], style: str) -> None:
    if style not in STYLES:
        raise ConfigError(f"style={style}: allowed are {', '.join(STYLES)}")
    if num_videos < 1 or num_frames < 3:
        raise ConfigError(f"{num_videos=}, {num_frames=}: needs at least 1 video of at least 3 frames")
    if any(side < 32 or side % 2 for side in size) or max(size) > 2 * min(size):
        raise ConfigError(
            f"size={size}: sides must be even, at least 32 pixels, and one not more than twice the other"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder: choose another, or remove it first")


def _write_scene(out: Path, name: str, scene: Drawable, as_mp4: bool) -> None:
    masks, frames = out / "Annotations" / name, out / "JPEGImages" / name
    masks.mkdir(parents=True)
    (frames.parent if as_mp4 else frames).mkdir(parents=True, exist_ok=True)
    images = _images_beside_labels(scene, masks)
    if as_mp4:
        write_video(frames.with_suffix(".mp4"), images, _FRAMES_PER_SECOND)
        return
    for i, image in enumerate(images):
        Image.fromarray(image).save(frames / f"{i:05d}.jpg", quality=95, subsampling=0)


def _images_beside_labels(scene: Drawable, folder: Path) -> Iterator[np.ndarray]:
    """Yield each frame's image, its labels having been written as a palette PNG."""
    for i in range(scene.num_frames):
        image, labels = scene.frame(i)
        png = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
        png.putpalette(_PALETTE if isinstance(scene, Scene) else (*_PALETTE, *_FURTHER))
        png.save(folder / f"{i:05d}.png")
        yield image


@dataclass(frozen=True)
class Thing:
    """An object: a wobbling star-shaped outline on a smooth path, with a pattern fixed to it.

    Lengths are in image heights, times run from 0 to 1 over the video.
    """

    corners: np.ndarray  # [3, 3]: time, x, y of the points that the path runs between
    radius: float
    wobble: np.ndarray  # [3, 3]: amplitude, phase, turns of the outline's 2nd to 4th harmonic
    spin: np.ndarray  # [2]: angle at the start in turns, turns over the video
    colours: np.ndarray  # [2, 3], RGB from 0 to 1
    pattern: str
    pattern_scale: float

    def local(self, time: float, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the grid [2, h, w] in the object's own rotating frame, and the depth there.

        Depth [h, w] is the distance to the outline along the radius, positive inside.
        """
        angle = 2 * np.pi * (self.spin[0] + self.spin[1] * time)
        x, y = grid - _place(self.corners, time)[:, None, None]
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        theta, outline = np.arctan2(v, u), np.ones_like(u)
        for harmonic, (amplitude, phase, turns) in enumerate(self.wobble, start=2):
            swing = np.sin(2 * np.pi * (turns * time + phase))
            outline += amplitude * (0.6 + 0.4 * swing) * np.cos(harmonic * theta + 2 * np.pi * phase)
        return np.stack([u, v]), self.radius * outline - np.hypot(u, v)

    def box(self, time: float, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return the rows and columns of an image of this size that contain the object."""
        middle = _place(self.corners, time)[::-1]  # y, x
        outermost = self.radius * (1 + self.wobble[:, 0].sum())
        first = np.maximum(0, ((middle - outermost) * size[0]).astype(int) - 1)
        stop = np.maximum(0, ((middle + outermost) * size[0]).astype(int) + 2)
        return slice(first[0], stop[0]), slice(first[1], stop[1])


@dataclass(frozen=True)
class Scene:
    """Objects from back to front over a background that drifts slowly."""

    things: list[Thing]
    ids: list[int]  # what the masks call each, 0 for one that they do not follow
    background: np.ndarray  # [h + margin, w + margin, 3], RGB from 0 to 1
    num_frames: int
    size: tuple[int, int]

    def frame(self, frame_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, uint8 [h, w, 3], and its labels, uint8 [h, w]: 0, or the id of the object in
        front.

        Edges in the image are soft over a pixel, centred on those of the labels.
        """
        time, margin = frame_index / (self.num_frames - 1), self.background.shape[0] - self.size[0]
        shift = round(margin * time)
        image = self.background[shift : shift + self.size[0], shift : shift + self.size[1]].copy()
        labels, grid = np.zeros(self.size, dtype=np.uint8), _grid(self.size)
        for object_id, thing in zip(self.ids, self.things):
            box = thing.box(time, self.size)
            local, depth = thing.local(time, grid[(slice(None), *box)])
            cover = np.clip(depth * self.size[0] + 0.5, 0, 1)[..., None]
            image[box] = image[box] * (1 - cover) + _paint(thing, local, depth) * cover
            labels[box][depth > 0] = object_id
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), labels


def draw_scene(
    rng: np.random.Generator, num_frames: int, size: tuple[int, int], followed: Sequence[str] = _FOLLOWED[0]
) -> Scene:
    """Return a scene with the promised properties: objects are drawn until they pass `_are_fit`."""
    hues = (rng.random() + np.array([0, 0.5])) % 1
    background = _draw_background(rng, size)
    ids = [followed.index(place) + 1 if place in followed else 0 for place in _FOLLOWED[0]]
    for _ in range(_MAX_TRIES):
        starts = _draw_starts(rng, size)
        # The one in front leaves the image for a while; the one behind is crossed.
        things = [
            _draw_thing(rng, size, start, hue, leaves=leaves)
            for start, hue, leaves in zip(starts, hues, (False, True))
        ]
        if _are_fit(things, size):
            return Scene(things, ids, background, num_frames, size)
    raise DataError(f"no scene was found for {size=}: try another seed")


def _draw_starts(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return where both objects begin, [2, 2]: within the image and apart from each other."""
    extent = np.array([size[1] / size[0], 1.0])
    radius = np.sqrt(_AREA[1] * extent[0] / np.pi)
    for _ in range(_MAX_TRIES):
        starts = rng.uniform(0.85 * radius, extent - 0.85 * radius, (2, 2))
        if np.hypot(*(starts[0] - starts[1])) > 1.8 * radius:
            return starts
    raise DataError(f"two objects do not fit beside each other into {size=}")


def _draw_thing(
    rng: np.random.Generator, size: tuple[int, int], start: np.ndarray, hue: float, leaves: bool
) -> Thing:
    aspect = size[1] / size[0]
    radius = float(np.sqrt(rng.uniform(*_AREA) * aspect / np.pi))
    wobble = np.stack([rng.uniform(0.03, 0.14, 3), rng.random(3), rng.uniform(0.5, 1.5, 3)], axis=1)
    return Thing(
        corners=_draw_corners(rng, start, aspect, radius, leaves),
        radius=radius,
        wobble=wobble,
        spin=np.array([rng.random(), rng.uniform(-0.4, 0.4)]),
        colours=_draw_colours(rng, hue),
        pattern=str(rng.choice(_PATTERNS)),
        pattern_scale=radius * rng.uniform(0.45, 0.65),
    )


def _draw_corners(
    rng: np.random.Generator, start: np.ndarray, aspect: float, radius: float, leaves: bool
) -> np.ndarray:
    """Draw start, turning point and end of a path that is slow enough but goes far.

    The turning point of one that leaves is out of view.
    """
    extent = np.array([aspect, 1.0])
    for _ in range(_MAX_TRIES):
        turn, end = rng.uniform(0.6 * radius, extent - 0.6 * radius, (2, 2))
        if leaves:
            axis = rng.integers(2)
            beyond = radius * rng.uniform(1.25, 1.45)
            turn[axis] = -beyond if rng.random() < 0.5 else extent[axis] + beyond
        times = np.array([-_ROUNDING, rng.uniform(0.4, 0.6), 1 + _ROUNDING])
        places = np.stack([start, turn, end])
        ways = np.hypot(*(np.diff(places, axis=0) / extent).T)
        # Speeds in sides of the image over the video: 2 is 4 pixels per frame of 60 at 128 pixels.
        if (ways / np.diff(times)).max() < 2.0 and ways.sum() > 1.0 and np.hypot(*(end - start)) > radius:
            return np.column_stack([times, places])
    raise DataError(f"no path was found for an object of {radius=:.3f} in an image of {aspect=:.2f}")


def _place(corners: np.ndarray, time: float) -> np.ndarray:
    """Return (x, y) on the path at a time: the way between the corners, averaged over a while around it."""
    times = time + np.linspace(-_ROUNDING, _ROUNDING, 9)
    return np.array([np.interp(times, corners[:, 0], corners[:, axis]).mean() for axis in (1, 2)])


def _are_fit(things: list[Thing], size: tuple[int, int]) -> bool:
    """Return whether all are in view at first, cross and go far; only the one in front leaves, briefly."""
    # A sliver at the edge, between the pixels of the trial, is in view.
    is_out = _trial_depths(things[-1], size).max(axis=(1, 2)) < -0.7 / _TRIAL_HEIGHT
    # Most tries end here, before the other object is looked at.
    if not 0.04 < is_out.mean() < 0.12:
        return False
    alone = np.stack([_trial_depths(thing, size) > 0 for thing in things])  # [things, times, h, w]
    seen = alone & ~(np.cumsum(alone[::-1], axis=0)[::-1] > alone)
    area, area_alone = seen.mean(axis=(2, 3)), alone.mean(axis=(2, 3))
    return bool(
        area[:, 0].min() > 0.085
        and (area.sum(axis=1) / (area > 0).sum(axis=1)).min() > 0.085
        and area[:-1].min() > 0.03
        and (area[:-1] / area_alone[:-1]).min() < 0.6
        and _held_mask_jaccard(seen) < 0.3
    )


def _trial_depths(thing: Thing, size: tuple[int, int]) -> np.ndarray:
    """Return how deep the pixels of a small image are in the object at the trial's times: [times, h, w]."""
    grid = _grid((_TRIAL_HEIGHT, round(_TRIAL_HEIGHT * size[1] / size[0])))
    return np.stack([thing.local(time, grid)[1] for time in _TRIAL_TIMES])


def _held_mask_jaccard(masks: np.ndarray) -> float:
    """Return the J of repeating the first mask over [objects, frames, h, w], of the best object."""
    first, later = masks[:, :1], masks[:, 1:-1]
    union = (first | later).sum(axis=(2, 3))
    return float(((first & later).sum(axis=(2, 3)) / union).mean(axis=1).max())


def _grid(size: tuple[int, int]) -> np.ndarray:
    """Return [2, h, w]: x and y of the pixel centres in image heights."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns + 0.5, rows + 0.5]) / height


def _draw_colours(rng: np.random.Generator, hue: float) -> np.ndarray:
    """Draw two colours of one strong hue, a light and a dark one: [2, 3], RGB from 0 to 1."""
    light = colorsys.hsv_to_rgb(hue, rng.uniform(0.75, 0.95), rng.uniform(0.9, 1.0))
    dark = colorsys.hsv_to_rgb((hue + rng.uniform(-0.06, 0.06)) % 1, 0.9, rng.uniform(0.35, 0.5))
    return np.array([light, dark])


def _paint(thing: Thing, local: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the object's colour everywhere, [h, w, 3]: its pattern, darker towards its edge."""
    u, v = 2 * np.pi * local / thing.pattern_scale
    wave = {
        "stripes": np.sin(u),
        "checks": np.sin(u) * np.sin(v) * 2,
        "dots": np.cos(u) + np.cos(v) - 0.4,
        "rings": np.sin(np.hypot(u, v)),
    }[thing.pattern]
    mix = np.clip(0.5 + 2.5 * wave, 0, 1)[..., None]
    shade = np.clip(0.55 + 2.5 * depth / thing.radius, 0.55, 1)[..., None]
    return shade * (thing.colours[0] * mix + thing.colours[1] * (1 - mix))


def _draw_background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw muted clouds and grain, larger than the image so that it can drift: [h + m, w + m, 3]."""
    margin = size[0] // 8
    height, width = size[0] + margin, size[1] + margin
    clouds = np.zeros((height, width))
    for octave in range(5):
        cells = rng.random((3 * 2**octave, 4 * 2**octave))
        clouds += 0.6**octave * cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    clouds = (clouds - clouds.min()) / np.ptp(clouds)
    hue = rng.random()
    dark = np.array(colorsys.hsv_to_rgb(hue, 0.25, 0.22))
    light = np.array(colorsys.hsv_to_rgb((hue + 0.1) % 1, 0.15, 0.75))
    return dark + (light - dark) * clouds[..., None]
