"""Codecs of PyAV, looked up in another process."""

from __future__ import annotations

import subprocess
from typing import Any

import av
import pytest

from sam2vt.health import video
from sam2vt.health.finding import BROKEN, NOTE, OK


def test_the_installed_codecs_are_what_pyav_says() -> None:
    found = {each.name: each for each in video.video()}
    assert found.keys() == video.CODECS.keys()
    for codec, (_, encoders) in video.CODECS.items():
        writes = any(name in av.codecs_available for name in encoders)
        assert ("written" in found[codec].value) == writes
    assert found["h264"].value.startswith("read")


def given(monkeypatch: pytest.MonkeyPatch, **found: Any) -> dict[str, Any]:
    monkeypatch.setattr(video, "probe", lambda: found)
    return {each.name: each for each in video.video()}


def test_a_codec_that_is_missing_is_no_fault_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    codecs = [["h264", "r"], ["hevc", "r"], ["vp9", "r"], ["mpeg4", "r"], ["mpeg4", "w"]]
    found = given(monkeypatch, av="", cv2="", codecs=codecs)
    assert (found["av1"].value, found["av1"].state) == ("neither read nor written", NOTE)
    assert found["av1"].fix.startswith("re-encode such videos")
    assert (found["h264"].value, found["h264"].state) == ("read", NOTE)  # overlays are mpeg4 then
    assert (found["hevc"].value, found["hevc"].state) == ("read", OK)
    assert found["mpeg4"].value == "read and written"


def test_a_library_that_cannot_be_loaded_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = given(monkeypatch, av="", cv2="ImportError: libGL.so.1", codecs=[])
    assert found["cv2"].state == BROKEN
    assert "libGL.so.1" in found["cv2"].value
    assert "opencv-python-headless" in found["cv2"].fix


@pytest.mark.parametrize("code", ["import os; os.abort()", "print('no JSON')", ""])
def test_a_library_that_ends_its_process_does_not_end_the_report(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(video, "_PROBE", code)
    (found,) = video.video()
    assert (found.name, found.state) == ("av", BROKEN)


def test_a_library_that_hangs_does_not_hang_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert [each.state for each in video.video()] == [BROKEN]
