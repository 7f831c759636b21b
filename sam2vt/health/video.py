"""Check that videos and images can be read and written: PyAV with its codecs, and OpenCV."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from sam2vt.health.finding import BROKEN, NOTE, OK, Finding

_SECONDS = 60
# Codec -> FFmpeg's decoders and encoders for it. Its own decoder for av1 needs a GPU.
CODECS = {
    "h264": (("h264",), ("libx264", "libopenh264")),
    "hevc": (("hevc",), ("libx265",)),
    "vp9": (("vp9", "libvpx-vp9"), ("libvpx-vp9",)),
    "av1": (("libdav1d", "libaom-av1"), ("libsvtav1", "libaom-av1")),
    "mpeg4": (("mpeg4",), ("mpeg4",)),
}
# In a process of its own: a broken library can end the process that loads it.
_PROBE = """
import importlib, json
found = {}
for name in ("av", "cv2"):
    try:
        found[name] = importlib.import_module(name) and ""
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
if not found["av"]:
    import av
    def known(name, mode):
        try:
            return bool(av.codec.Codec(name, mode))
        except Exception:
            return False
    found["codecs"] = [[name, mode] for name, mode in WANTED if known(name, mode)]
print(json.dumps(found))
"""
_REMEDIES = {
    "av": "pip install --force-reinstall --only-binary av 'av>=14'",
    "cv2": "install the system packages libgl1 and libglib2.0-0, or opencv-python-headless instead",
}


def video() -> Iterator[Finding]:
    """Yield whether PyAV and OpenCV can be imported, and what PyAV does with each codec."""
    found = probe()
    for module, fix in _REMEDIES.items():
        if found.get(module):
            yield Finding(module, f"cannot be imported: {found[module]}", BROKEN, fix)
    if "codecs" in found:
        yield from _codecs({(name, mode) for name, mode in found["codecs"]})


def probe() -> Mapping[str, Any]:
    """Return, from another process, the error of each module's import ("" if none) and the known codecs."""
    wanted = [[name, mode] for names in CODECS.values() for mode, each in zip("rw", names) for name in each]
    code = _PROBE.replace("WANTED", repr(wanted))
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS)
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"av": f"the process that tries it ended ({type(error).__name__})"}


def _codecs(known: set[tuple[str, str]]) -> Iterator[Finding]:
    for codec, (decoders, encoders) in CODECS.items():
        reads = any((name, "r") in known for name in decoders)
        writes = any((name, "w") in known for name in encoders)
        does = [what for what, can in (("read", reads), ("written", writes)) if can]
        missing, state = "", OK
        if not reads:
            missing, state = f"re-encode such videos, or: {_REMEDIES['av']}", NOTE
        elif codec == "h264" and not writes:
            missing, state = f"overlays are written as mpeg4; {_REMEDIES['av']}", NOTE
        yield Finding(codec, " and ".join(does) or "neither read nor written", state, missing)
