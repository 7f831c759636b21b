"""What a layout cannot say, folders that are not ours, and conversions that are stopped."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from sam2vt import cli
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing import convert as converting
from sam2vt.core.data.writing.conversion import ConvertOptions
from sam2vt.core.data.writing.convert import Target, convert
from sam2vt.core.data.writing.folder import folder_names
from sam2vt.core.types import ObjectImages, Segmentations
from sam2vt.errors import ConfigError, DataError


@pytest.fixture
def video(davis):
    return load_records("auto", davis(range(0, 10, 4)))[0]


def segmented(video, objects):
    """The video with rectangles (top, left) of 20 x 20 on frame 4, empty on the others."""
    rles = {}
    for key, (top, left) in objects.items():
        mask = np.zeros((48, 64), np.uint8, order="F")
        mask[top : top + 20, left : left + 20] = 1
        rles[key] = [coco_mask.encode(mask)]
    shown = {0: Segmentations({}), 4: Segmentations(rles), 8: Segmentations({})}
    return replace(video, annotations=shown, object_ids=tuple(sorted(objects)))


def unknown(video):
    """Of object 2 nothing is known on frame 4."""
    one, none = (str(Path(video.source) / f"{name}.png") for name in ("one", "none"))
    for path, value in ((one, 255), (none, 0)):
        Image.fromarray(np.full((48, 64), value, np.uint8)).save(path)
    shown = {i: ObjectImages({1: one} if i == 4 else {1: one, 2: none}) for i in (0, 4, 8)}
    return replace(video, annotations=shown, object_ids=(1, 2))


def emptied(video):
    return replace(video, annotations={0: Segmentations({}), 4: Segmentations({})}, object_ids=None)


OVERLAP = {3: (0, 0), 7: (10, 10)}
CANNOT = {
    "overlap as davis": (
        "davis",
        lambda v: segmented(v, OVERLAP),
        ["frame 4", "object 7 overlaps object 3"],
        "davis-objects",
    ),
    "unknown as davis": ("davis", unknown, ["frame 4", "object 2"], "davis-objects"),
    "unknown as coco": ("coco", unknown, ["frame 4", "object 2"], "davis-objects"),
    "unknown as sav": ("sav", unknown, ["frame 4", "object 2"], "davis-objects"),
    "still": ("davis", lambda v: replace(v, is_still=True), ["video a", "still"], "COCO images"),
    "object 0 as davis": ("davis", lambda v: segmented(v, {0: (0, 0)}), ["frame 4", "object 0"], "coco"),
    "object 70000 as davis": ("davis", lambda v: segmented(v, {70_000: (0, 0)}), ["object 70000"], "coco"),
    "object 0 as sav": ("sav", lambda v: segmented(v, {0: (0, 0)}), ["object 0", "video a"], "coco"),
    "object -1 as objects": ("davis-objects", lambda v: segmented(v, {-1: (0, 0)}), ["object -1"], "coco"),
    "irregular as sav": (
        "sav",
        lambda v: replace(v, annotations=dict.fromkeys((0, 3, 4), v.annotations[0])),
        ["video a", "0, 3, 4 of 10"],
        "use coco",
    ),
    "another stride than told by their number": (
        "sav",
        lambda v: replace(v, annotations=dict.fromkeys((0, 3, 6), v.annotations[0])),
        ["video a", "0, 3, 6 of 10"],
        "use coco",
    ),
    "nothing visible": ("coco", emptied, ["video a", "no object is visible"], "leave the video out"),
    "a side of a split": (
        "davis",
        lambda v: replace(v, frame_range=(0, 5)),
        ["video a", "(0, 5)"],
        "before its split",
    ),
}


@pytest.mark.parametrize("name", CANNOT)
def test_is_refused_with_its_place(video, tmp_path, name):
    target, change, says, remedy = CANNOT[name]
    with pytest.raises(DataError) as caught:
        convert([change(video)], str(tmp_path / "new" / "out"), target)
    message = str(caught.value)
    assert not [each for each in (*says, remedy) if each not in message], message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("target", ["coco", "sav"])
def test_void_is_refused(davis, tmp_path, target):
    records = load_records("auto", davis(range(0, 10, 4), void=True))
    with pytest.raises(DataError, match="frame 0: a part of the frame is void.*use davis"):
        convert(records, str(tmp_path / "out"), target)


def test_losses_that_are_allowed_are_counted(video, tmp_path, caplog):
    records = [segmented(video, OVERLAP), replace(unknown(video), video_id="u")]
    with caplog.at_level(logging.WARNING):
        convert(records, str(tmp_path / "out"), "davis", lossy=True)
    told = [each.getMessage() for each in caplog.records]
    assert any("1 times objects overlapped" in each for each in told)
    assert any("1 times an object that is not known" in each for each in told)
    masks = load_masks(load_records("auto", tmp_path / "out")[0], 4)
    assert masks[7].sum() == 400
    assert masks[3].sum() == 300  # object 7 lies on top


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("target", ["davis", "davis-objects", "sav", "coco"])
def test_stopped_and_started_again(davis, tmp_path, monkeypatch, target):
    """Videos that are done are not written again, and nothing is at its place before all is there."""
    records, out = load_records("auto", davis(range(0, 10, 4))), tmp_path / "out"
    convert(records, str(tmp_path / "whole"), target)
    write, join = converting.TARGETS[target]

    def stop(record, *arguments):
        if record.video_id == "b":
            raise KeyboardInterrupt
        write(record, *arguments)

    with monkeypatch.context() as patch:
        patch.setitem(converting.TARGETS, target, Target(stop, join))
        with pytest.raises(KeyboardInterrupt):
            convert(records, str(out), target)
    work = tmp_path / "out.converting"
    assert work.exists()
    assert not out.exists()
    first = {path: path.stat().st_ino for path in work.rglob("*") if path.suffix in (".jpg", ".mp4")}
    assert first
    with pytest.raises(DataError, match="unfinished work of another conversion.*remove the folder"):
        convert(records[:1], str(out), target)
    convert(records, str(out), target)
    assert contents(out) == contents(tmp_path / "whole")
    assert not work.exists()
    for path, inode in first.items():
        assert (out / path.relative_to(work)).stat().st_ino == inode


def test_a_line_that_a_kill_cut_is_done_again(davis, tmp_path, monkeypatch):
    records, out = load_records("auto", davis()), tmp_path / "out"

    def stop(names, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(converting.TARGETS, "coco", Target(converting.write_part, stop))
        with pytest.raises(KeyboardInterrupt):
            convert(records, str(out), "coco")
    marker = tmp_path / "out.converting/.converted"
    marker.write_text(marker.read_text()[:-2])
    (tmp_path / "out.converting/.parts/b.json").unlink()
    convert(records, str(out), "coco")
    assert len(load_records("auto", out)) == 2


def test_folders_with_something_else_stay_as_they_are(video, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder; choose another"):
        convert([video], str(tmp_path / "out"), "davis")
    (tmp_path / "new.converting").mkdir()
    (tmp_path / "new.converting/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="another conversion"):
        convert([video], str(tmp_path / "new"), "davis")
    assert (tmp_path / "new.converting/mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    convert([video], str(tmp_path / "empty"), "davis")
    assert not list((tmp_path / "empty").glob(".*"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder"):
        convert([video], str(tmp_path / "file"), "davis")


@pytest.mark.parametrize(
    ("number", "file", "says"),
    [
        (errno.ENOSPC, None, "out.converting: cannot be written: .*bytes are left on its disk: free some"),
        (errno.EACCES, "out.converting/a", "out.converting: cannot be written: .*may write to"),
        (errno.EACCES, "data/a.jpg", "data/a.jpg: cannot be read: .*allow your user to read it"),
    ],
)
def test_what_the_disk_refuses(video, tmp_path, monkeypatch, number, file, says):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number), *([str(tmp_path / file)] if file else []))

    monkeypatch.setitem(converting.TARGETS, "coco", Target(refuse))
    with pytest.raises(DataError, match=says):
        convert([video], str(tmp_path / "out"), "coco")


@pytest.mark.parametrize("damaged", [b"", b"\xff\n", b"WHAT\nnot json\n", b"WHAT\n\xff\n"])
def test_a_damaged_list_of_what_is_done(video, tmp_path, monkeypatch, damaged):
    def stop(names, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(converting.TARGETS, "coco", Target(converting.write_part, stop))
        with pytest.raises(KeyboardInterrupt):
            convert([video], str(tmp_path / "out"), "coco")
    marker = tmp_path / "out.converting/.converted"
    marker.write_bytes(damaged.replace(b"WHAT", marker.read_bytes().splitlines()[0]))
    with pytest.raises(DataError, match=f"{tmp_path}/out.converting.* remove "):
        convert([video], str(tmp_path / "out"), "coco")


def test_names_of_folders(video, tmp_path):
    assert folder_names(["a/b", ".hidden", "c"]) == {"a/b": "a_b", ".hidden": "_hidden", "c": "c"}
    with pytest.raises(DataError, match=r"two videos would be written as a_b: a_b and a/b"):
        folder_names(["a_b", "a/b"])
    convert([replace(video, video_id="../up")], str(tmp_path / "out"), "coco")
    (found,) = load_records("auto", tmp_path / "out")
    assert found.video_id == "../up"
    assert found.frame_paths[0].startswith(str(tmp_path / "out/frames/_._up"))


def test_the_command_line(davis, tmp_path, capsys):
    root = davis(range(0, 10, 4))
    cli.main(["convert", str(root), str(tmp_path / "sav"), "--to", "sav"])
    cli.main(["convert", str(tmp_path / "sav"), str(tmp_path / "coco"), "--to", "coco", "--encode", "png"])
    assert capsys.readouterr().out.splitlines() == [
        f"2 videos: {tmp_path / name}" for name in ("sav", "coco")
    ]
    cli.main(["validate", str(tmp_path / "coco"), "--workers", "1"])
    for arguments in (["--to", "yolo"], ["--to", "davis", "--encode", "keep"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["convert", str(root), str(tmp_path / "no"), *arguments])
    assert not (tmp_path / "no").exists()
    for options in ({"encode": "keep"}, {"encode": "jpeg:0"}):
        with pytest.raises(ConfigError):
            ConvertOptions(**options)


@pytest.mark.parametrize("fps", ["0", "0.5", "1000.1", "1e9", "1e999", "nan"])
def test_rates_of_frames_that_no_player_shows(davis, tmp_path, capsys, fps):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["convert", str(davis()), str(tmp_path / "no"), "--to", "sav", "--fps", fps])
    assert "has to be at least 1 and at most 1000 frames per second: give the rate" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("fps", [1, 23.976, 1000])
def test_rates_of_frames_at_the_bounds(davis, tmp_path, fps):
    convert(load_records("auto", davis()), str(tmp_path / "out"), "sav", ConvertOptions(fps=fps))
    assert len(load_records("auto", tmp_path / "out")) == 2
