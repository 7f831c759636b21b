"""A picture of panels with captions and legends, on light or dark ground."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam2vt.core.evaluation.palette import LOOKS, WHITE, colour_of

MARGIN, BAR, LABEL = 10, 32, 26  # pixels: around panels, height of a title, of a caption and of a legend
TITLE, CAPTION = 17, 15  # pixels: sizes of letters, which are read without enlarging
ICON = 18  # pixels: side of a legend's icon
_GAP = 7  # pixels: between an icon and its words; twice that between entries
_FRAME = 90  # brightness of an icon's ground, as of a dim frame

Entry = tuple[str, np.ndarray]  # of a legend: its words, and its icon, uint8 RGB [ICON, ICON, 3]


class Canvas:
    """A picture, `image`, on which panels and captions are placed, in pixels from the top left.

    `style` is the setting of that name: the ground, and the colour of what is written on it.
    """

    def __init__(self, height: int, width: int, style: str = "paper") -> None:
        self.look = LOOKS[style]
        self.image = Image.new("RGB", (width, height), self.look.paper)
        self._draw = ImageDraw.Draw(self.image)

    def panel(self, image: np.ndarray, caption: str, x: int, y: int, size: int = CAPTION) -> None:
        """Place an image, uint8 RGB, with its caption above it."""
        self.text(fit_text(caption, image.shape[1], size), x, y + LABEL / 2, size)
        self.image.paste(Image.fromarray(image), (x, y + LABEL))

    def text(self, words: str, x: float, y: float, size: int = CAPTION, muted: bool = False) -> float:
        """Write words whose middle line is at y; return the x of their end."""
        colour = self.look.muted if muted else self.look.ink
        self._draw.text((x, y), words, font=font(size), fill=colour, anchor="lm")
        return x + font(size).getlength(words)

    def title(self, words: str, note: str, width: int) -> None:
        """Write a title of up to half the width at the top left, and a note beside it."""
        y = (MARGIN + BAR) / 2
        x = self.text(fit_text(words, width / 2, TITLE), MARGIN, y, TITLE) + 2 * _GAP
        self.text(fit_text(note, width - x - MARGIN, CAPTION), x, y, muted=True)

    def legend(self, entries: Sequence[Entry], x: float, y: float, end: float) -> None:
        """Draw entries beside each other, as many as fit before `end`; their middle line is at y."""
        for place, (words, icon) in enumerate(entries):
            left = end - MARGIN - (place < len(entries) - 1) * 2 * _GAP  # room for an ellipsis
            if x + ICON + _GAP + font(CAPTION).getlength(words) > left:
                self.text("…", x, y)
                return
            self.image.paste(Image.fromarray(icon), (round(x), round(y - ICON / 2)))
            x = self.text(words, x + ICON + _GAP, y) + 2 * _GAP


def legend_rows(entries: Iterable[Entry], width: float) -> list[list[Entry]]:
    """Divide the entries of a legend into rows of at most `width` pixels."""
    rows: list[list[Entry]] = []
    left = 0.0
    for words, icon in entries:
        needed = ICON + font(CAPTION).getlength(words) + 3 * _GAP
        if needed > left:
            rows.append([])
            left = width - 2 * MARGIN
        rows[-1].append((words, icon))
        left -= needed
    return rows


def swatch(place: int) -> np.ndarray:
    """Return the icon of the place-th object."""
    return np.full((ICON, ICON, 3), colour_of(place), np.uint8)


def drawn_icon(draw: Callable[[np.ndarray], None]) -> np.ndarray:
    """Return an icon on which `draw` has drawn, as on a frame."""
    image = np.full((ICON, ICON, 3), _FRAME, np.uint8)
    draw(image)
    return image


def outline_icon() -> np.ndarray:
    """Return the icon of the white outline."""
    image = np.full((ICON, ICON, 3), _FRAME, np.uint8)
    image[3:-3, 3:-3] = WHITE
    image[5:-5, 5:-5] = _FRAME
    return image


def fit_text(words: str, width: float, size: int) -> str:
    """Return the words, cut with an ellipsis to at most `width` pixels."""
    if font(size).getlength(words) <= width:
        return words
    while words and font(size).getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of all pictures."""
    # Pillow's own font does not scale; matplotlib ships a good one.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def save_animation(path: Path, frames: Sequence[Image.Image], milliseconds: int) -> None:
    """Write an endless GIF that shows each frame this long."""
    # One palette per frame: with a common one, colours of later frames shift.
    indexed = [frame.quantize(256, method=Image.Quantize.FASTOCTREE) for frame in frames]
    indexed[0].save(
        path, save_all=True, append_images=indexed[1:], duration=milliseconds, loop=0, format="GIF"
    )
