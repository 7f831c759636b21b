"""Draw prompts from masks: points, a box or the mask itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam2vt.core.data.frames.feature_cache import as_tensors
from sam2vt.core.types import Prompt
from sam2vt.errors import ConfigError, DataError
from sam2vt.settings import PROMPT_ALIASES, PROMPT_KINDS, PROMPT_NAMES

if TYPE_CHECKING:
    import torch


def normalise_prompt_types(prompt_types: Sequence[str] | None) -> tuple[str, ...]:
    """Return the kinds of prompt by their proper names, repeats kept as weights; None means all of them.

    Raises ConfigError for an unknown kind and for an empty list.
    """
    if prompt_types is None:
        return PROMPT_KINDS
    given = [prompt_types] if isinstance(prompt_types, str) else list(prompt_types)
    named = [PROMPT_ALIASES.get(kind, kind) if isinstance(kind, str) else kind for kind in given]
    unknown = [kind for kind in named if kind not in PROMPT_KINDS]
    if unknown or not named:
        what = f"unknown prompt type {unknown[0]!r}" if unknown else "an empty list"
        allowed = ", ".join(PROMPT_NAMES)
        raise ConfigError(f"prompt_types={given!r}: {what}; allowed are {allowed}, or None for all")
    return tuple(named)


class PromptGenerator:
    """Draws one prompt for one mask.

    `num_of_pos_points` is a number, or the inclusive range to draw it from. With `include_center`, the first
    positive point is the pixel deepest inside the mask; it counts as one of the positives.
    `prompt_types=None` means point, box and mask. One kind is drawn each time; a kind that is named twice is
    drawn twice as often as others.
    """

    def __init__(
        self,
        prompt_types: Sequence[str] | None = None,
        num_of_pos_points: int | Sequence[int] = 1,
        include_center: bool = False,
        num_of_neg_points: int = 0,
    ) -> None:
        self.prompt_types = normalise_prompt_types(prompt_types)
        self.number_of_pos_points = num_of_pos_points
        self.include_center = include_center
        self.num_of_neg_points = num_of_neg_points
        self._pos_range = _inclusive_range(num_of_pos_points)
        if num_of_neg_points < 0:
            raise ConfigError(f"num_of_neg_points={num_of_neg_points}: must be 0 or more")
        # Settings without effect would look as if they had been tried.
        if "point" not in self.prompt_types and (include_center or num_of_neg_points):
            field = f"{include_center=}" if include_center else f"{num_of_neg_points=}"
            raise ConfigError(
                f"{field} has no effect with prompt_types={list(self.prompt_types)}: "
                "add 'point' to prompt_types, or leave it out"
            )

    def generate_prompts(
        self,
        mask: torch.Tensor | np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        prompt_type: str | None = None,
    ) -> Prompt:
        """Return the prompt for one mask: bool or 0/1 [H, W].

        The same mask and state of `rng` give the same prompt; without `rng` each call differs. `prompt_type`
        sets the kind instead of drawing it. Points are pixel centres as (x, y), all different. If a mask (for
        negatives, its outside) has too few pixels, each of them is a point; so a mask that fills the image
        gives no negatives. A box is given by the mask's first and last pixel in x and y. Raises DataError for
        an empty mask or a wrong shape.
        """
        rng = np.random.default_rng() if rng is None else rng
        return as_tensors(self.draw(_as_bool_image(mask), rng, prompt_type))

    def draw(
        self, pixels: np.ndarray, rng: np.random.Generator, prompt_type: str | None = None
    ) -> dict[str, Any]:
        """Draw a prompt of arrays for a non-empty mask, bool [H, W]; see `generate_prompts`."""
        if prompt_type is None:
            prompt_type = self.prompt_types[int(rng.integers(len(self.prompt_types)))]
        (kind,) = normalise_prompt_types([prompt_type])
        if kind == "mask":
            return {"type": "mask", "mask": pixels.copy()}
        points, labels = _box(pixels) if kind == "box" else self._points(pixels, rng)
        return {
            "type": kind,
            "point_coords": np.asarray(points, dtype=np.float32),
            "point_labels": np.asarray(labels, dtype=np.int32),
        }

    def _points(self, pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        low, high = self._pos_range
        num_pos = int(rng.integers(low, high + 1))
        inside, outside = np.flatnonzero(pixels), np.flatnonzero(~pixels)
        chosen = np.empty(0, dtype=np.int64)
        if self.include_center:
            chosen = np.array([_deepest_pixel(pixels)])
            # The centre is one of the positives: it must not be drawn again.
            inside = inside[inside != chosen[0]]
        chosen = np.concatenate([chosen, _draw(inside, num_pos - len(chosen), rng)])
        negatives = _draw(outside, self.num_of_neg_points, rng)
        rows, columns = np.divmod(np.concatenate([chosen, negatives]), pixels.shape[1])
        return np.stack([columns, rows], axis=1), [1] * len(chosen) + [0] * len(negatives)


def _inclusive_range(number: int | Sequence[int]) -> tuple[int, int]:
    bounds = list(number) if isinstance(number, Sequence) else [number, number]
    whole = all(isinstance(bound, int | np.integer) for bound in bounds)
    if len(bounds) != 2 or not whole or not 1 <= bounds[0] <= bounds[1]:
        raise ConfigError(
            f"number of positive points {number!r}: must be a whole number of at least 1, "
            "or a pair (least, most) of them with least <= most"
        )
    return int(bounds[0]), int(bounds[1])


def _as_bool_image(mask: torch.Tensor | np.ndarray) -> np.ndarray:
    pixels = np.asarray(mask) if isinstance(mask, np.ndarray) else mask.detach().cpu().numpy()
    if pixels.ndim != 2:
        raise DataError(f"a prompt needs one mask of shape [H, W], got shape {list(pixels.shape)}")
    pixels = pixels.astype(bool)
    if not pixels.any():
        raise DataError(
            f"cannot prompt from an empty mask of {pixels.shape[1]}x{pixels.shape[0]} pixels: "
            "prompt the object on a frame where it is visible"
        )
    return pixels


def _deepest_pixel(pixels: np.ndarray) -> int:
    """Return the flat index of the pixel farthest from the outside; beyond the image's edge is outside."""
    # Without a border, the deepest pixel of an object at the edge would be on the edge.
    padded = np.pad(pixels.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return int(np.argmax(distance))


def _draw(candidates: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to `number` different candidates."""
    return rng.choice(candidates, size=min(number, len(candidates)), replace=False)


def _box(pixels: np.ndarray) -> tuple[np.ndarray, list[int]]:
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]]), [2, 3]
