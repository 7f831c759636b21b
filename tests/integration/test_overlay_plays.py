"""The overlay of a video in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2vt.core.prediction.outputs.overlay import OverlayWriter
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from tests.integration.browser import start_browser

pytestmark = pytest.mark.cluster

SIZE, NUM_FRAMES, FPS = (121, 161), 24, 12
# Plays it to its end, and says what came of it.
PLAY = """
const done = arguments[arguments.length - 1], video = document.querySelector("video");
const said = (what) => done({
  what, error: video.error && video.error.message, duration: video.duration,
  width: video.videoWidth, height: video.videoHeight,
  frames: video.getVideoPlaybackQuality().totalVideoFrames});
video.onended = () => said("ended");
video.onerror = () => said("error");
video.play().catch((error) => said(String(error)));
"""


def test_it_plays_to_its_end(tmp_path: Path) -> None:
    with OverlayWriter(tmp_path / "o.mp4", FPS) as writer:
        for i in range(NUM_FRAMES):
            mask = np.zeros(SIZE, bool)
            mask[40:90, 2 * i : 2 * i + 60] = True
            objects = (ObjectMask(1, "dog", mask, 1.0, 1.0),)
            writer.add(np.full((*SIZE, 3), 5 * i, np.uint8), FrameMasks(i, *SIZE, objects))
    (tmp_path / "page.html").write_text('<video src="o.mp4" muted></video>')
    browser = start_browser("--autoplay-policy=no-user-gesture-required")
    try:
        browser.set_script_timeout(60)
        browser.get((tmp_path / "page.html").as_uri())
        found = browser.execute_async_script(PLAY)
    finally:
        browser.quit()
    assert found["what"] == "ended", found
    assert (found["width"], found["height"]) == (162, 122)
    assert abs(found["duration"] - NUM_FRAMES / FPS) < 0.2
    assert found["frames"] > 0
