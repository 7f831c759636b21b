"""Colours of every picture: one palette that colour-blind readers can tell apart, on light or dark ground."""

from __future__ import annotations

import colorsys
from typing import Any, NamedTuple

Colour = tuple[int, int, int]  # RGB, 0 to 255
WHITE: Colour = (255, 255, 255)
# Okabe and Ito's colours, with violet and crimson in place of yellow and black, which vanish on light or on
# dark ground. A test measures how far apart colour-blind readers see each pair.
COLOURS: tuple[Colour, ...] = (
    (213, 94, 0),  # vermilion
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # green
    (204, 121, 167),  # pink
    (230, 159, 0),  # orange
    (0, 114, 178),  # blue
    (105, 75, 255),  # violet
    (210, 0, 60),  # crimson
)


class Look(NamedTuple):
    """The ground of a picture and what is written on it, each as #rrggbb."""

    paper: str
    ink: str
    muted: str
    grid: str


# By the name in the setting `style`.
LOOKS = {
    "paper": Look("#ffffff", "#1b2430", "#566273", "#e2e6eb"),
    "screen": Look("#161b22", "#e6eaf0", "#9aa6b5", "#2b333e"),
}
# What has a meaning of its own on a page: its colour on light and on dark ground.
ROLES = {
    "point": ("#8592a3", "#7d8a9b"),
    "best": ("#0a7d5a", "#3fcf9b"),
    "default": ("#c4560a", "#f59a4a"),
    "failed": ("#c22a44", "#f2707f"),
    "bar": ("#2a6fab", "#5aa5e6"),
}


def colour_of(place: int) -> Colour:
    """Return the colour of the place-th object of a video; those after the palette's get hues far apart."""
    if place < len(COLOURS):
        return COLOURS[place]
    red, green, blue = colorsys.hsv_to_rgb(0.11 + 0.618034 * place % 1.0, 0.65, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def as_hex(colour: Colour) -> str:
    """Return a colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def ink_on(colour: Colour) -> str:
    """Return the colour, dark or white, in which text on `colour` is read best."""
    shares = [(channel / 255) ** 2.2 for channel in colour]
    luminance = 0.2126 * shares[0] + 0.7152 * shares[1] + 0.0722 * shares[2]
    # Where the contrasts with white and with the dark ground are equal.
    return LOOKS["screen"].paper if luminance > 0.2 else "#ffffff"


def chart_style(look: Look) -> dict[Any, Any]:
    """Return matplotlib's settings for a chart on this ground; its pictures are the same at each drawing."""
    muted = ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        "svg.hashsalt": "sam2vt",
        "text.parse_math": False,  # names may hold a dollar
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "figure.facecolor": look.paper,
        "axes.facecolor": look.paper,
        "text.color": look.ink,
        **dict.fromkeys(muted, look.muted),
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": look.grid,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
    }
