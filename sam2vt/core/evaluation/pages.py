"""Write HTML pages that need nothing else, light and dark, and charts as SVG that follows their colours."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sam2vt.core.evaluation.palette import LOOKS, ROLES, chart_style

# Charts are drawn in the light colours, and `_inline` replaces each by the page's variable of that name: so
# no light colour may occur twice.
LIGHT = {**LOOKS["paper"]._asdict(), **{name: light for name, (light, _) in ROLES.items()}}
DARK = {**LOOKS["screen"]._asdict(), **{name: dark for name, (_, dark) in ROLES.items()}}
# From the worst to the best trial.
RAMP = ("#c9d2dc", "#a8c0d6", "#82abcf", "#5893c3", "#317ab2", "#176199", "#08467b")
DARK_RAMP = ("#3a4552", "#3f5d7b", "#45769f", "#4f90c3", "#6dafe4", "#98cbf5", "#cfe8ff")
VARIABLES = {
    **{colour: name for name, colour in LIGHT.items()},
    **{colour: f"ramp{i}" for i, colour in enumerate(RAMP)},
}

_NO_LOADS = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
Section = tuple[str, str, str]  # id, heading, content

TIP = "tip:"  # a gid with this prefix becomes a <title>, which browsers show over the mark
_NO_XML = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # characters that XML cannot hold
_STYLE = {
    **chart_style(LOOKS["paper"]),
    "svg.fonttype": "none",
    "font.size": 12,
    "axes.titlesize": 12,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), LIGHT["point"]),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), LIGHT["muted"]),
}


def chart(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Return a function that draws the figure as inline SVG, independent of the user's style."""

    @functools.wraps(draw)
    def as_svg(*args: Any) -> str:
        with matplotlib.rc_context(), warnings.catch_warnings():
            # The reader's browser may have a font for letters that this machine lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return _inline(draw(*args))

    return as_svg


def empty_figure(name: str, label: str, width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty chart of this size in pixels; `name` must be unique on the page."""
    layout = ConstrainedLayoutEngine(w_pad=4 / 72, h_pad=4 / 72)
    figure = Figure(figsize=(width / 72, height / 72), layout=layout, facecolor="none")
    figure.set_gid(name)
    figure.set_label(label)
    return figure, figure.add_subplot(facecolor="none")


def _inline(figure: Figure) -> str:
    """Return the figure as <svg>: colours as variables, unique ids, no namespaces, no metadata."""
    name, width = figure.get_gid() or "", figure.get_figwidth() * 72
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file)
    root = ElementTree.fromstring(_for_xml(file.getvalue()))
    for element in list(root.iter()):
        for child in list(element):
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
        _adapt(element, name)
    height = figure.get_figheight() * 72
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-label": _for_xml(str(figure.get_label())),
        "style": f"max-width: {width:g}px; min-width: {width if width > 1040 else min(width, 860):g}px",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _for_xml(text: str) -> str:
    return re.sub(_NO_XML, "\N{REPLACEMENT CHARACTER}", text)


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Give an element the ids and colours of the page; ids get a prefix, since charts share theirs."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None  # whitespace between elements
    if element.tag != "text":
        element.text = None
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        key = key.rpartition("}")[2]
        if key == "id" and value.startswith(TIP):
            title = ElementTree.Element("title")
            title.text = value.removeprefix(TIP)
            element.insert(0, title)
        elif key == "id":
            element.set(key, f"{prefix}-{value}")
        elif key == "href":
            element.set(key, f"#{prefix}-{value[1:]}")
        else:
            value = re.sub(r"url\(#", f"url(#{prefix}-", value)
            element.set(key, re.sub("#[0-9a-f]{6}", _as_variable, value))


def _as_variable(match: re.Match[str]) -> str:
    name = VARIABLES.get(match[0])
    return f"var(--{name})" if name else match[0]


def html_page(title: str, head: str, sections: Iterable[Section]) -> str:
    """Return a page of sections with links to each of them; `head` comes below the title. All are HTML."""
    parts = list(sections)
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in parts)
    content = "\n".join(
        f'<section id="{name}">\n<h2>{heading}</h2>\n{body}\n</section>' for name, heading, body in parts
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_NO_LOADS}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        f"{head}\n<nav>{links}</nav>\n</header>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def _style() -> str:
    light = {**LIGHT, **{f"ramp{i}": colour for i, colour in enumerate(RAMP)}}
    dark = {**DARK, **{f"ramp{i}": colour for i, colour in enumerate(DARK_RAMP)}}
    themes = [";".join(f"--{name}:{colour}" for name, colour in theme.items()) for theme in (light, dark)]
    css = (files(__package__) / "page.css").read_text(encoding="utf-8")
    return (
        f":root{{color-scheme:light dark;--page:#f5f7f9;{themes[0]}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{--page:#0d1117;{themes[1]}}}}}\n\n{css}"
    )
