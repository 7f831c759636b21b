"""The palette as colour-blind readers see it: distances in CIE Lab under simulated dichromacy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pytest

from sam2vt.core.evaluation.palette import COLOURS, LOOKS, ROLES, as_hex, colour_of, ink_on
from sam2vt.core.training.callbacks.plots import CURVES
from sam2vt.core.training.loss_terms.terms import TERMS

APART = 10.0  # CIE76; about 2.3 is the least that an eye notices side by side
# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
# Linear sRGB to XYZ, each divided by the white point D65.
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


def lab(colour: str, eyes: np.ndarray) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = TO_XYZ @ np.clip(eyes @ linear, 0, 1)
    x, y, z = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def too_near(colours: Mapping[str, str], eyes: str) -> list[str]:
    """Pairs that these eyes confuse, with their distance."""
    seen = {name: lab(colour, EYES[eyes]) for name, colour in colours.items()}
    found = {(one, other): np.linalg.norm(seen[one] - seen[other]) for one, other in combinations(seen, 2)}
    return [f"{one} and {other}: {far:.1f}" for (one, other), far in found.items() if far < APART]


def named(colours: Iterable[str]) -> dict[str, str]:
    return {str(place): colour for place, colour in enumerate(colours)}


def test_the_distance_is_the_known_one() -> None:
    assert lab("#ff0000", EYES["all cones"]) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    red, green = (lab(colour, EYES["deuteranopia"]) for colour in ("#a06040", "#707030"))
    apart = [lab(colour, EYES["all cones"]) for colour in ("#a06040", "#707030")]
    assert np.linalg.norm(red - green) < 0.5 * np.linalg.norm(apart[0] - apart[1])


@pytest.mark.parametrize("eyes", EYES)
def test_the_first_eight_objects_differ(eyes: str) -> None:
    colours = [as_hex(colour_of(place)) for place in range(8)]
    assert colours == [as_hex(colour) for colour in COLOURS]
    assert too_near(named(colours), eyes) == []


@pytest.mark.parametrize("eyes", EYES)
def test_the_curves_of_a_panel_differ(eyes: str) -> None:
    # A term that is added gets a colour by its name; the eight of the palette are taken.
    terms = [name for name in ("loss", *TERMS) if name in CURVES]
    assert len(terms) >= 7
    assert too_near({name: CURVES[name] for name in terms}, eyes) == []
    assert too_near({name: CURVES[name] for name in ("J&F", "J", "F")}, eyes) == []


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("ground", [0, 1])
def test_the_roles_of_a_page_differ(eyes: str, ground: int) -> None:
    assert too_near({name: pair[ground] for name, pair in ROLES.items()}, eyes) == []


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_every_colour_is_seen_on_its_ground(look) -> None:
    lightness = {colour: lab(colour, EYES["all cones"])[0] for colour in (*look, *map(as_hex, COLOURS))}
    ground = lightness.pop(look.paper)
    del lightness[look.grid]
    assert min(abs(each - ground) for each in lightness.values()) > 25
    assert abs(lightness[look.ink] - ground) > 70


def test_labels_are_read_on_their_colour() -> None:
    eyes = EYES["all cones"]
    for place in range(24):
        colour = colour_of(place)
        assert abs(lab(ink_on(colour), eyes)[0] - lab(as_hex(colour), eyes)[0]) > 40
