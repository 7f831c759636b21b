"""What formats refuse before tracking, the table of objects, and disks that are full."""

from __future__ import annotations

import csv
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sam2vt.core.prediction.journal import Journal, TrackedVideo
from sam2vt.core.prediction.outputs import OUTPUTS, check_outputs, overlay, write_outputs
from sam2vt.core.prediction.outputs.output import Plan
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.errors import ConfigError, DataError

MANY = tuple(range(1, 301))
REFUSED = {
    "unknown": (["png", "gif"], Plan("v"), ["no format gif", "allowed are png, objects, coco"]),
    "one folder for two": (["png", "objects"], Plan("v"), ["png and objects both fill Annotations/"]),
    "overlaps as png": (["png"], Plan("v", (1,), True), ["--overlaps keep", "ask for objects"]),
    "overlaps in a zip": (["mose-zip"], Plan("v", (1,), True), ["mose-zip", "--overlaps resolve"]),
    "object 0 as png": (["png"], Plan("v", (0, 1)), ["video v, object 0", "from 1 to 65535", "coco"]),
    "a large id as png": (["png"], Plan("v", (70_000,)), ["object 70000", "another number"]),
    "300 objects in a zip": (["davis-zip"], Plan("v", MANY), ["object 255", "8 bits", "from 1 to 254"]),
    "object -1 as objects": (["objects"], Plan("v", (-1,)), ["object -1", "coco"]),
    "object 0 as sav": (["sav"], Plan("v", (0,)), ["object 0", "masklet", "coco"]),
    "object 0 as cvat": (["cvat"], Plan("v", (0,)), ["object 0", "track", "coco"]),
    "a long id as cvat": (["cvat"], Plan("v", (10**10,)), ["object 10000000000", "coco"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_before_tracking(name: str) -> None:
    formats, plan, says = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        check_outputs(formats, [plan])
    assert not [each for each in says if each not in str(caught.value)], str(caught.value)


def test_all_faults_are_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        check_outputs(["png", "sav", "gif"], [Plan("a", (0,)), Plan("b", (0,))])
    assert len(caught.value.faults) == 5


def test_what_fits_is_not_refused() -> None:
    check_outputs([name for name in OUTPUTS if name != "objects"], [Plan("v", (1, 254)), Plan("w", (7,))])
    check_outputs(["objects", "coco", "sav", "cvat", "csv", "overlay"], [Plan("v", MANY, True)])


def test_without_its_codec_an_overlay_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay.av, "codecs_available", {"mpeg4"})
    with pytest.raises(ConfigError, match="without libx264.*leave out overlay"):
        check_outputs(["overlay"], [Plan("v")])


@pytest.mark.parametrize("name", ["png", "sav", "davis-zip"])
def test_ids_that_come_from_detections_are_refused_when_written(tracked, tmp_path: Path, name: str) -> None:
    video, _ = tracked((0, 1))
    with pytest.raises(DataError, match=f"{name}: video clip, object 0, which begins on frame 0: .*ask for"):
        write_outputs([name], video, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["png", "mose-zip"])
def test_masks_that_overlap_all_the_same_are_an_error(tracked, save, tmp_path: Path, name: str) -> None:
    video, _ = tracked(overlap=True)
    with pytest.raises(DataError, match="video clip, frame 0: object 3 overlaps object 1.*ask for objects"):
        save(name, tmp_path, video)


def test_the_table_of_objects(save, tmp_path: Path) -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    objects = (ObjectMask(1, "dog", mask, 0.91, 0.82), ObjectMask(2, "", mask & False, 0.1, float("nan")))
    with Journal(tmp_path / "journal") as journal:
        journal.append(FrameMasks(1, 6, 8, objects))
    video = TrackedVideo("v", "a, b", 6, 8, 2, ("0", "1"), {1: "dog"}, tmp_path / "journal", None)
    save("csv", tmp_path, video)
    with (tmp_path / "objects.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert ",".join(header) == "video,frame,object,name,area,x,y,x0,y0,x1,y1,presence,predicted_iou"
    assert rows == [
        ["a, b", "1", "1", "dog", "8", "4.5", "2.5", "3", "2", "7", "4", "0.91", "0.82"],
        ["a, b", "1", "2", "", "0", "", "", "", "", "", "", "0.1", ""],
    ]


@contextmanager
def small_disk(num_bytes: int) -> Iterator[None]:
    """Have the kernel refuse files beyond this size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_disk_that_refuses_is_one_message(tracked, save, tmp_path: Path, name: str) -> None:
    """No half file stays, and once there is room, the call is simply repeated."""
    video, _ = tracked(size=(60, 80))
    out = tmp_path / "out"
    with small_disk(64), pytest.raises(DataError, match="cannot be written: File too large"):
        save(name, out, video)
    assert [path for path in out.rglob("*") if path.is_file()] == []
    save(name, out, video)
    assert any(path.is_file() for path in out.rglob("*"))


@pytest.mark.parametrize("name", ["coco", "sav", "cvat", "davis-zip", "csv"])
def test_memory_does_not_grow_by_the_masks_of_a_video(tracked, save, tmp_path: Path, name: str) -> None:
    """What grows with the frames is an index: far less than the masks' run lengths."""
    videos = [tracked((1,), f"{n}", size=(60, 150), num_frames=n)[0] for n in (3, 40, 150)]
    peaks = []
    for video in videos:  # the first one does not count: it imports
        tracemalloc.start()
        save(name, tmp_path / video.name, video)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    _, short, long = (video.journal.stat().st_size for video in videos)
    assert peaks[2] - peaks[1] < (long - short) / 4
