"""The look of the page: its colours, light and dark, and its CSS."""

from __future__ import annotations

# Name -> light, dark. Charts are drawn in the light colours, and `svg` replaces each by the page's variable
# of that name: so no light colour may occur twice.
_COLOURS = {
    "paper": ("#ffffff", "#161b22"),
    "ink": ("#1b2430", "#e6eaf0"),
    "muted": ("#566273", "#9aa6b5"),
    "grid": ("#e2e6eb", "#2b333e"),
    "point": ("#8592a3", "#7d8a9b"),
    "best": ("#0a7d5a", "#3fcf9b"),
    "default": ("#c4560a", "#f59a4a"),
    "failed": ("#c22a44", "#f2707f"),
    "bar": ("#2a6fab", "#5aa5e6"),
}
LIGHT, DARK = ({name: pair[i] for name, pair in _COLOURS.items()} for i in range(2))
# From the worst to the best trial.
RAMP = ("#c9d2dc", "#a8c0d6", "#82abcf", "#5893c3", "#317ab2", "#176199", "#08467b")
DARK_RAMP = ("#3a4552", "#3f5d7b", "#45769f", "#4f90c3", "#6dafe4", "#98cbf5", "#cfe8ff")
VARIABLES = {
    **{colour: name for name, colour in LIGHT.items()},
    **{colour: f"ramp{i}" for i, colour in enumerate(RAMP)},
}


def style() -> str:
    """Return the content of the page's <style>."""
    light = {**LIGHT, **{f"ramp{i}": colour for i, colour in enumerate(RAMP)}}
    dark = {**DARK, **{f"ramp{i}": colour for i, colour in enumerate(DARK_RAMP)}}
    themes = [";".join(f"--{name}:{colour}" for name, colour in theme.items()) for theme in (light, dark)]
    return (
        f":root{{color-scheme:light dark;--page:#f5f7f9;{themes[0]}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{--page:#0d1117;{themes[1]}}}}}\n{_CSS}"
    )


_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,"DejaVu Sans",sans-serif}
header,main{max-width:1120px;margin:0 auto;padding:0 16px}
header{padding-top:32px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 12px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 4px}
h3{font-size:1rem;margin:20px 0 8px;overflow-wrap:anywhere}
.verdict{font-size:1.2rem;margin:0 0 4px}
.note,.aid,.none{color:var(--muted);margin:0 0 12px;max-width:80ch}
.none{font-style:italic}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:16px 0 20px;font-size:.9rem}
a{color:var(--bar);text-decoration:none}
a:hover,a:focus{text-decoration:underline}
section{background:var(--paper);border:1px solid var(--grid);border-radius:10px;padding:20px;margin:0 0 20px}
.chart,.scroll{overflow-x:auto}
svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
svg text{font-family:system-ui,"DejaVu Sans",sans-serif!important;
paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:20px 16px}
.grid svg{min-width:0!important;max-width:none!important}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}
thead th{color:var(--muted);font-weight:600;vertical-align:bottom;line-height:1.25}
tbody th{font-weight:500;white-space:nowrap;position:sticky;left:0;background:var(--paper)}
.number{text-align:right}
#trials td,#pareto td{white-space:nowrap}
.reason:not(:empty){display:block;width:14em;white-space:normal;overflow-wrap:anywhere;font-size:.8rem;line-height:1.35}
.is-best th,.is-best td{font-weight:700}
.is-best th,.best{color:var(--best)}
.is-default th,.default{color:var(--default)}
.failed{color:var(--failed)}
.stopped,.running,.unset,.same td{color:var(--muted)}
.point{color:var(--point)}
.unset{font-style:italic}
.pair{display:grid;margin-bottom:12px;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:12px}
figure{margin:0;min-width:0}
figcaption{font-size:.875rem;margin-bottom:4px}
img{display:block;max-width:100%;height:auto;border-radius:6px;cursor:zoom-in}
@media (max-width:600px){section{padding:14px}th,td{padding:5px 7px}tbody th{white-space:normal}}
img:focus{position:fixed;inset:0;z-index:2;width:100vw;height:100vh;max-width:none;object-fit:contain;
background:rgb(0 0 0/.88);border-radius:0;cursor:zoom-out;outline:none}
"""
