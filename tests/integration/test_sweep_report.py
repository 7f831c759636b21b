"""The report of a sweep in a real browser."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2vt.distributed.sweep.report.page import write_report
from sam2vt.distributed.sweep.results import DONE, FAILED, STOPPED, Objective, SweepResult, Trial
from tests.integration.browser import start_browser

pytestmark = pytest.mark.cluster

Show = Callable[..., Any]
CHARTS = ("history", "parameters", "parallel", "importance", "curves", "pareto")
LOG_FIELDS = frozenset({"optimizer.lr", "loss.bce_weight"})
DEFAULTS = {
    "optimizer.lr": 1e-5,
    "loss.bce_weight": 0.0,
    "dataset.prompt_types": ["mask"],
    "dataset.num_of_pos_points": 1,
    "model.freeze_encoder": True,
}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    prompts = [["mask"], ["mask", "mask", "point", "box"], ["point", "box"]][rng.integers(3)]
    values: dict[str, Any] = {
        "optimizer.lr": float(10 ** rng.uniform(-6, -3)),
        "loss.bce_weight": float(10 ** rng.uniform(-1, 1)),
        "dataset.prompt_types": prompts,
        "model.freeze_encoder": bool(rng.integers(2)),
    }
    return values | ({"dataset.num_of_pos_points": int(rng.integers(1, 5))} if len(prompts) > 1 else {})


def course(values: dict[str, Any], num: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Validations of a trial whose learning rate decides where it ends."""
    top = 0.8 - 0.06 * (math.log10(values["optimizer.lr"]) + 4) ** 2 + rng.normal(0, 0.01)
    speed = 0.3 + 0.2 * (not values["model.freeze_encoder"]) + rng.uniform(0, 0.1)
    rows = []
    for i in range(num):
        jf = 0.52 + (top - 0.52) * (1 - math.exp(-i / 3)) + rng.normal(0, 0.004) * (i > 0)
        scores = {"val/J&F": jf, "val/J": jf - 0.02, "val/F": jf + 0.02, "val/J_hold_first": 0.47}
        rows.append({"step": 100.0 * i, **scores, "seconds_per_step": speed})
    return rows


def sweep(num_trials: int = 20) -> SweepResult:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(num_trials):
        values = draw(rng) if number else {}
        status, num = {4: (FAILED, 3), 7: (FAILED, 0)}.get(
            number, (STOPPED, 4) if number % 3 == 2 else (DONE, 9)
        )
        reason = {
            STOPPED: "behind the others, ended by sweep.scheduler=asha",
            FAILED: "the loss is not finite",
        }
        rows = course(values or DEFAULTS, num, rng)
        trials.append(Trial(number, values, status, reason.get(status, ""), rows, 31.0 * num))
    objectives = [Objective("val/J&F", "max"), Objective("seconds_per_step", "min")]
    return SweepResult("prompts", trials, objectives, list(DEFAULTS), LOG_FIELDS, DEFAULTS)


def pictures(seed: int) -> list[tuple[str, bytes]]:
    frames = [
        Image.fromarray(np.random.default_rng(seed + i).integers(0, 255, (90, 160, 3), np.uint8))
        for i in range(2)
    ]
    png, gif = io.BytesIO(), io.BytesIO()
    frames[0].save(png, "PNG")
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    return [("swan.gif", gif.getvalue()), ("swan.png", png.getvalue())]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, result = tmp_path_factory.mktemp("sweep") / "sweep.html", sweep()
    assert result.best is not None
    write_report(result, path, {0: pictures(0), result.best.number: pictures(9)})
    return path


@pytest.fixture
def show(report: Path) -> Iterator[Show]:
    """Opens the report in a browser, so wide and in this colour scheme."""
    browsers: list[Any] = []

    def opened(width: int, scheme: str = "light") -> Any:
        browser = start_browser("--hide-scrollbars")
        browsers.append(browser)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(report.as_uri())
        return browser

    yield opened
    for browser in browsers:
        browser.quit()


def test_it_loads_nothing_and_the_console_is_silent(show: Show, report: Path) -> None:
    browser = show(1200)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert report.as_uri() in asked
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_every_chart_and_picture_is_seen(show: Show) -> None:
    browser = show(1200)
    for name in CHARTS:
        drawn = browser.find_elements("css selector", f"section#{name} svg")
        assert len(drawn) == (len(DEFAULTS) if name == "parameters" else 1), name
        for svg in drawn:
            assert svg.is_displayed()
            assert min(svg.size["width"], svg.size["height"]) > 100
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert widths == [160] * 4


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_follows_the_scheme(show: Show, tmp_path: Path, width: int, scheme: str) -> None:
    browser = show(width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.save_screenshot(str(tmp_path / f"{scheme}_{width}.png"))
    with Image.open(tmp_path / f"{scheme}_{width}.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] == width
    assert pixels.std() > 5  # blank would be 0
    assert (np.median(pixels) > 128) == (scheme == "light")


def test_no_label_overlaps_another_or_is_clipped(show: Show) -> None:
    browser = show(1200)
    assert browser.execute_script(_COLLISIONS) == []


def test_a_picture_grows_when_it_is_chosen(show: Show) -> None:
    browser = show(1200)
    image = browser.find_element("css selector", "#overlays img")
    assert image.size["width"] < 600
    image.click()
    assert image.size == {"width": 1200, "height": 900}


# Pairs of labels of a chart whose boxes share more than a pixel, and labels outside of their chart.
_COLLISIONS = """
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const box = svg.getBoundingClientRect();
  const labels = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  labels.forEach(([text, a], i) => {
    if (a.left < box.left - 1 || a.right > box.right + 1 || a.top < box.top - 1 || a.bottom > box.bottom + 1)
      found.push(["clipped", text]);
    for (const [other, b] of labels.slice(i + 1))
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
          Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
        found.push([text, other]);
  });
}
return found;
"""
