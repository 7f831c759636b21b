"""Varied scenes, for a tracker that should not know what it will follow.

One to three annotated objects of any shape and texture move, turn, grow, bend, cross, leave and come back.
Others are there to distract: look-alikes of the annotated ones, and things that pass in front. The camera
pans, zooms and turns, and may cut to another view; the light changes, frames are blurred and noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np

from sam2vt.core.data.writing.sprites import Shape, Sprite, paint
from sam2vt.core.data.writing.textures import Texture
from sam2vt.errors import DataError

_MAX_TRIES = 300
_TRIAL = (36, 13)  # height of a trial's frames, their number
_LEAST_AREA = 0.012  # of an annotated object on the first frame, as a share of the image
_LEAST_SEEN = 0.5  # share of the frames on which it is visible
_BACKGROUND_SIDE = 384
_INSIDE = 0.5  # cover of a pixel that the labels count to an object

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Ingredients:
    """What scenes of a style are made of."""

    textures: Mapping[str, Texture]
    shapes: Mapping[str, Shape]


@dataclass(frozen=True)
class Camera:
    """The view: the world moves under it. Tables have a row per knot, at equal times."""

    views: np.ndarray  # [knots, 4]: x, y in image heights, logarithm of the zoom, turns
    cut: float  # the time of a cut; above 1: none
    jump: np.ndarray  # [4], what a cut adds

    def places(self, time: float, size: tuple[int, int]) -> np.ndarray:
        """Return where in the world each pixel looks, [2, h, w] in image heights."""
        knots = np.linspace(0, 1, len(self.views))
        x, y, zoom, turns = (np.interp(time, knots, column) for column in self.views.T)
        if time >= self.cut:
            x, y, zoom, turns = np.array([x, y, zoom, turns]) + self.jump
        rows, columns = np.mgrid[: size[0], : size[1]]
        middle = np.array([size[1] / size[0], 1.0])[:, None, None] / 2
        grid = np.stack([columns + 0.5, rows + 0.5]) / size[0] - middle
        cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
        turned = np.stack([cos * grid[0] - sin * grid[1], sin * grid[0] + cos * grid[1]])
        return turned * np.exp(-zoom) + middle + np.array([x, y])[:, None, None]


@dataclass(frozen=True)
class Film:
    """What happens to the picture behind the lens."""

    gain: np.ndarray  # [knots, 3]: factor of each colour, at equal times
    gamma: float
    blur: np.ndarray  # [knots]: radius in image heights
    shutter: float  # how long it is open, as a share of a frame: what moves is blurred
    noise: float


@dataclass(frozen=True)
class VariedScene:
    """Sprites from back to front before a background."""

    sprites: list[Sprite]
    ids: list[int]  # what the masks call each, 0 for one that they do not follow
    backgrounds: tuple[np.ndarray, np.ndarray]  # before and after a cut
    camera: Camera
    film: Film
    num_frames: int
    size: tuple[int, int]
    seed: int  # of the noise

    def frame(self, frame_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, uint8 [h, w, 3], and its labels, uint8 [h, w]: 0, or an id."""
        time, step = frame_index / (self.num_frames - 1), 1 / (self.num_frames - 1)
        image, labels = self._seen(time)
        if self.film.shutter:
            later, _ = self._seen(min(1.0, time + self.film.shutter * step))
            image = 0.5 * (image + later)
        return self._developed(image, time, frame_index), labels

    def labels(self, time: float) -> np.ndarray:
        """Return the labels at a time, uint8 [h, w]."""
        return self._seen(time)[1]

    def _seen(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        places = self.camera.places(time, self.size)
        image = self._background(time, places)
        labels = np.zeros(self.size, np.uint8)
        for object_id, sprite in zip(self.ids, self.sprites):
            colour, cover = sprite.drawn(time, places)
            image += (colour - image) * cover[..., None]
            labels[cover > _INSIDE] = object_id
        return image, labels

    def _background(self, time: float, places: np.ndarray) -> np.ndarray:
        x, y = (each.astype(np.float32) * (_BACKGROUND_SIDE / 2) for each in places)
        picture = self.backgrounds[int(time >= self.camera.cut)]
        return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def _developed(self, image: np.ndarray, time: float, frame_index: int) -> np.ndarray:
        film, knots = self.film, np.linspace(0, 1, len(self.film.gain))
        gain = np.array([np.interp(time, knots, channel) for channel in film.gain.T])
        image = np.clip(image * gain, 0, 1) ** film.gamma
        radius = float(np.interp(time, np.linspace(0, 1, len(film.blur)), film.blur)) * self.size[0]
        if radius > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), radius)
        rng = np.random.default_rng([self.seed, frame_index])
        image = image + film.noise * rng.normal(size=image.shape)
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_varied_scene(
    rng: np.random.Generator, num_frames: int, size: tuple[int, int], ingredients: Ingredients
) -> VariedScene:
    """Return a scene whose annotated objects are in view at first, and for at least half of the time."""
    for _ in range(_MAX_TRIES):
        scene = _draw_scene(rng, num_frames, size, ingredients)
        if _is_fit(scene):
            return scene
    raise DataError(f"no scene was found for {size=}: try another seed")


def _draw_scene(
    rng: np.random.Generator, num_frames: int, size: tuple[int, int], ingredients: Ingredients
) -> VariedScene:
    aspect, pace = size[1] / size[0], rng.uniform(0.3, 1.6)
    followed = [_draw_sprite(rng, ingredients, aspect, pace) for _ in range(int(rng.integers(1, 4)))]
    alike = [_alike(rng, each, ingredients, aspect, pace) for each in followed if rng.random() < 0.5]
    before = [_draw_sprite(rng, ingredients, aspect, pace) for _ in range(int(rng.random() < 0.4))]
    sprites = [*followed, *alike]
    order = rng.permutation(len(sprites))
    ids = [place + 1 if place < len(followed) else 0 for place in order]
    return VariedScene(
        sprites=[*(sprites[place] for place in order), *before],
        ids=[*ids, *[0] * len(before)],
        backgrounds=(_draw_background(rng, ingredients), _draw_background(rng, ingredients)),
        camera=_draw_camera(rng),
        film=_draw_film(rng),
        num_frames=num_frames,
        size=size,
        seed=int(rng.integers(2**31)),
    )


def _draw_sprite(rng: np.random.Generator, ingredients: Ingredients, aspect: float, pace: float) -> Sprite:
    amplitude = rng.uniform(0, 0.18) if rng.random() < 0.7 else 0.0
    return Sprite(
        texture=paint(rng, _one_of(rng, ingredients.textures)),
        shape=_one_of(rng, ingredients.shapes)(rng),
        path=_draw_path(rng, aspect, pace),
        radius=float(np.exp(rng.uniform(np.log(0.1), np.log(0.32)))),
        growth=np.exp(rng.uniform(-0.35, 0.35, 4)),
        spin=(rng.random(), rng.uniform(-0.6, 0.6) * pace),
        bend=np.stack(
            [np.full(2, amplitude), rng.uniform(0.5, 1.5, 2), rng.random(2), rng.uniform(1, 4, 2)], axis=1
        ),
    )


def _alike(
    rng: np.random.Generator, other: Sprite, ingredients: Ingredients, aspect: float, pace: float
) -> Sprite:
    """Return a sprite with another one's texture, or with its shape and size, elsewhere."""
    drawn = _draw_sprite(rng, ingredients, aspect, pace)
    if rng.random() < 0.5:
        return replace(drawn, texture=np.ascontiguousarray(np.rot90(other.texture)), radius=other.radius)
    return replace(drawn, shape=other.shape, radius=other.radius)


def _draw_path(rng: np.random.Generator, aspect: float, pace: float) -> np.ndarray:
    """Return corners [n, 3] (time, x, y); one in three leaves the image and comes back."""
    number = int(rng.integers(3, 6))
    steps = rng.normal(size=(number, 2)) * 0.35 * pace
    start = rng.uniform([0.15 * aspect, 0.15], [0.85 * aspect, 0.85])
    places = start + np.cumsum(np.concatenate([np.zeros((1, 2)), steps[1:]]), axis=0)
    places = _reflected(places, np.array([aspect, 1.0]))
    if rng.random() < 1 / 3:
        away, side = int(rng.integers(1, number - 1)), rng.integers(4)
        beyond = [(-0.45, 0.5), (aspect + 0.45, 0.5), (aspect / 2, -0.45), (aspect / 2, 1.45)][side]
        places[away] = np.where(np.array(beyond) == 0.5, places[away], beyond)
    return np.column_stack([np.linspace(0, 1, number), places])


def _reflected(places: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Fold places back into the image at its edges."""
    folded = np.mod(places, 2 * extent)
    return np.where(folded > extent, 2 * extent - folded, folded)


def _draw_background(rng: np.random.Generator, ingredients: Ingredients) -> np.ndarray:
    picture = _one_of(rng, ingredients.textures)(rng, (_BACKGROUND_SIDE, _BACKGROUND_SIDE))
    # Often it is calmer than what moves before it, as the ground and walls of photographs are.
    calm = rng.uniform(0.2, 1.0)
    return picture.mean((0, 1)) * (1 - calm) + picture * calm


def _draw_camera(rng: np.random.Generator) -> Camera:
    strength = rng.choice([0.0, 0.4, 1.0])
    spread = strength * np.array([0.12, 0.12, 0.15, 0.02])
    views = np.cumsum(rng.normal(size=(5, 4)) * spread, axis=0)
    cuts = rng.random() < 0.1
    jump = rng.normal(size=4) * np.array([0.15, 0.15, 0.2, 0.03])
    return Camera(views - views[0], rng.uniform(0.3, 0.8) if cuts else 2.0, jump)


def _draw_film(rng: np.random.Generator) -> Film:
    light = rng.choice([0.0, 0.15, 0.35])
    blurred = rng.random() < 0.4
    return Film(
        gain=np.exp(rng.normal(size=(4, 1)) * light + rng.normal(size=(1, 3)) * 0.06),
        gamma=float(np.exp(rng.uniform(-0.25, 0.25))),
        blur=rng.uniform(0, 0.012, 4) * blurred,
        shutter=float(rng.choice([0.0, 0.5])),
        noise=float(rng.choice([0.0, 0.01, 0.03])),
    )


def _is_fit(scene: VariedScene) -> bool:
    height, number = _TRIAL
    small = replace(scene, size=(height, round(height * scene.size[1] / scene.size[0])))
    labels = np.stack([small.labels(time) for time in np.linspace(0, 1, number)])
    for object_id in filter(None, scene.ids):
        area = (labels == object_id).mean((1, 2))
        if area[0] < _LEAST_AREA or (area > 0).mean() < _LEAST_SEEN:
            return False
    return True


def _one_of(rng: np.random.Generator, table: Mapping[str, Choice]) -> Choice:
    return table[str(rng.choice(list(table)))]
