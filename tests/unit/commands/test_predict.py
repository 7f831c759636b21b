"""`sam2vt predict` as a user calls it: its files, its last lines, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2vt import cli
from sam2vt.commands.predict import _without_folder
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks as load_annotation
from sam2vt.core.prediction.call import load_masks

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 4


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of frames."""
    folder, rng = tmp_path / "clip", np.random.default_rng(0)
    folder.mkdir()
    for index in range(NUM_FRAMES):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")
    return folder


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: cli.main(["predict", str(checkpoint), *map(str, arguments)])


def test_one_click_makes_masks_a_picture_and_a_table(
    run, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clip, "--point", "20,20", "--negative", "60,40", "--frame", "1")
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / "predict").iterdir()
    assert f"1 video, 4 frames, 1 object:\n  {folder.relative_to(tmp_path)}\n" in shown
    # But for paths, which have lines of their own.
    assert all(len(line) <= 80 for line in shown.splitlines() if "runs/" not in line)
    loading: dict[str, Any] = {}
    exec(textwrap.dedent(shown.split("load in Python\n")[1].split("  correct by")[0]), loading)
    for name in ("overlay/clip.mp4", "annotations.json", "objects.csv", "Annotations/clip/00003.png"):
        assert (folder / name).is_file(), name
    frames = list(loading["frames"])
    assert [len(frame.objects) for frame in frames] == [0, 1, 1, 1]
    # What a training reads beside the frames.
    (folder / "JPEGImages").mkdir()
    shutil.copytree(clip, folder / "JPEGImages" / "clip")
    (record,) = load_records("video", folder)
    for index, frame in enumerate(frames):
        read = load_annotation(record, index)
        for each in frame.objects:
            assert np.array_equal(read.get(each.object_id, np.zeros_like(each.mask)), each.mask)


def test_every_call_has_a_folder_of_its_own(run, clip: Path, tmp_path: Path) -> None:
    for _ in range(2):
        run(clip, "--box", "5,5,40,40", "--formats", "csv")
    assert len(list((tmp_path / "runs" / "predict").iterdir())) == 2


def test_a_dataset_needs_no_prompts_and_a_finished_call_resumes_to_nothing(
    run, sample: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(sample, "--out", out, "--formats", "coco")
    before = (out / "annotations.json").read_bytes()
    caplog.clear()
    run(sample, "--resume", out, "--formats", "coco")
    assert "finished already" in caplog.text
    assert (out / "annotations.json").read_bytes() == before


def test_detections_begin_objects(run, clip: Path, tmp_path: Path) -> None:
    found = [{"frame": 1, "detections": [{"class": "cup", "box": [5, 5, 40, 40]}]}]
    (tmp_path / "d.json").write_text(json.dumps({"version": 1, "frames": found}))
    run(clip, "--detections", "d.json", "--out", "out", "--formats", "csv")
    frames = list(load_masks("out")["clip"].frames())
    assert [[each.name for each in frame.objects] for frame in frames] == [[], ["cup"], ["cup"], ["cup"]]


def test_a_stopped_call_says_how_it_goes_on(
    run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sam2vt.core.prediction.journal import Journal

    arguments, append = [clip, "--point", "20,20", "--out", "out"], Journal.append
    monkeypatch.setattr("sys.argv", ["sam2vt", "predict", "best.ckpt", *map(str, arguments)])

    def stopping(journal: Journal, masks: Any) -> None:
        append(journal, masks)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", stopping)
    with pytest.raises(SystemExit, match="130"):
        run(*arguments)
    assert f"sam2vt predict best.ckpt {clip} --point 20,20 --resume out" in capsys.readouterr().err


def test_a_source_that_cannot_be_opened_leaves_no_folder(
    exit_code, checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """A pipe without a video, a camera that is not there; and a call that ends before its first frame."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(b"no video " * 999,))
    writer.start()
    before = set(tmp_path.iterdir())
    for source in ("pipe", "camera:97"):
        assert exit_code("predict", str(checkpoint), source, "--point", "5,5") == 2
        shown = capsys.readouterr().err
        assert "cannot be opened" in shown
        assert "--resume" not in shown
    writer.join(10)
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("sam2vt.core.prediction.run.Following.masks", lambda following: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["predict", str(checkpoint), str(clip), "--point", "5,5", "--out", "empty"])
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("given", ["--out o", "--out=o", "--ou o", "--resume o", "--resum=o"])
def test_the_folder_is_left_out_of_the_command_that_continues(given: str) -> None:
    command = ["predict", "run", "clip.mp4", "--point", "1,1", "--overlaps", "keep", "--resize", "stock"]
    assert _without_folder([*command[:5], *given.split(), *command[5:]]) == command


def test_objects_beyond_a_format_are_written_in_another(
    run, exit_code, checkpoint, clip: Path, tmp_path: Path, capsys
) -> None:
    """Those of detections are known only when everything is tracked, which is not to be lost."""
    boxes = [[n % 16 * 4, n // 16 * 3, n % 16 * 4 + 4, n // 16 * 3 + 3] for n in range(255)]
    frames = [{"frame": NUM_FRAMES - 1, "detections": [{"class": "cup", "box": box} for box in boxes]}]
    (tmp_path / "d.json").write_text(json.dumps({"version": 1, "frames": frames}))
    given = [str(checkpoint), str(clip), "--detections", "d.json"]
    assert exit_code("predict", *given, "--out", "out", "--formats", "overlay", "davis-zip") == 2
    shown = capsys.readouterr().err
    assert "davis-zip: video clip, object 255, which begins on frame 3: " in shown
    assert "from 1 to 254; ask for objects or coco (--formats)" in shown
    assert "--resume out" in shown
    assert Path("out/overlay/clip.mp4").is_file()
    assert list(load_masks("out")) == ["clip"]
    run(clip, "--detections", "d.json", "--resume", "out", "--formats", "png", "csv")
    assert Image.open(f"out/Annotations/clip/{NUM_FRAMES - 1:05d}.png").mode == "I;16"
    assert exit_code("predict", *given, "--resume", "out", "--formats", "objects") == 2
    assert "both fill Annotations" in capsys.readouterr().err


def masks_of(folder: Path, name: str = "00000.png", size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    folder.mkdir(exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[5:20, 5:20] = 1
    Image.fromarray(mask).save(folder / name)
    return folder


def prompts_of(path: Path, **changed: object) -> Path:
    entry = {"frame": 0, "points": [[20, 20]], **changed}
    path.write_text(json.dumps({"version": 1, "objects": [{"id": 1, "prompts": [entry]}]}))
    return path


# What is given beside checkpoint and clip, and what the message says; {tmp} is the test's folder.
REFUSED = {
    "no prompt": ([], "--prompts FILE"),
    "two ways": (["--point", "1,1", "--masks", "m"], "in one way"),
    "a frame of nothing": (["--frame", "2", "--prompts", "p.json"], "--frame"),
    "a point outside": (["--point", "100,5"], "outside the frame of 64x48"),
    "a frame that is not there": (["--point", "1,1", "--frame", "9"], "0 to 3"),
    "a point of three numbers": (["--point", "1,2,3"], "x,y"),
    "a box without area": (["--box", "5,5,5,9"], "box"),
    "a click on both sides": (["--point", "5,5", "--negative", "5,5"], "on one pixel"),
    "prompts that are not there": (["--prompts", "no.json"], "no.json"),
    "prompts of an unknown video": (["--prompts", "other.json"], "kitchen"),
    "masks that are not there": (["--masks", "nowhere"], "nowhere"),
    "a mask of another size": (["--masks", "small"], "64x48"),
    "a mask of no frame": (["--masks", "named"], "99999"),
    "detections that are not there": (["--detections", "no.json"], "no.json"),
    "detections' options alone": (["--point", "1,1", "--reprompt-every", "5"], "--detections"),
    "an IoU without detections": (["--point", "1,1", "--match-iou", "0.3"], "--match-iou"),
    "detections of nothing": (["--detections", "none.json"], "no detection on any frame"),
    "a folder that cannot be": (["--point", "1,1", "--out", "/proc/self/x"], "choose a folder"),
    "backward from detections": (["--detections", "d.json", "--direction", "backward"], "forward"),
    "a format that does not exist": (["--point", "1,1", "--formats", "gif"], "gif"),
    "overlaps in a label image": (["--point", "1,1", "--formats", "png", "--overlaps", "keep"], "objects"),
    "both ways to fill a folder": (["--point", "1,1", "--formats", "png", "objects"], "Annotations"),
    "an object that a format cannot have": (["--prompts", "large.json", "--formats", "davis-zip"], "254"),
    "presence of 2": (["--point", "1,1", "--presence", "2"], "presence"),
    "an unknown device": (["--point", "1,1", "--device", "tpu"], "--device"),
    "a size that does not fit": (["--point", "1,1", "--image-size", "100"], "--image-size"),
    "a full folder": (["--point", "1,1", "--out", "clip"], "--resume"),
    "a file as folder": (["--point", "1,1", "--out", "p.json"], "file"),
    "nothing to resume": (["--point", "1,1", "--resume", "clip"], "no folder of"),
    "out and resume": (["--point", "1,1", "--out", "o", "--resume", "clip"], "--out"),
    "settings of a dataset": (["--point", "1,1", "--identity", "iou"], "identity"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_mistake_is_one_message_and_leaves_nothing(
    exit_code, checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch, capsys, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts_of(tmp_path / "p.json")
    large = {"version": 1, "objects": [{"id": 300, "prompts": [{"frame": 0, "points": [[5, 5]]}]}]}
    (tmp_path / "large.json").write_text(json.dumps(large))
    other = {
        "version": 1,
        "videos": {"kitchen": {"objects": [{"id": 1, "prompts": [{"frame": 0, "points": [[5, 5]]}]}]}},
    }
    (tmp_path / "other.json").write_text(json.dumps(other))
    found = [{"frame": 1, "detections": [{"class": "cup", "box": [5, 5, 40, 40]}]}]
    (tmp_path / "d.json").write_text(json.dumps({"version": 1, "frames": found}))
    none = {"version": 1, "frames": [{"frame": 1, "detections": []}]}
    (tmp_path / "none.json").write_text(json.dumps(none))
    masks_of(tmp_path / "m")
    masks_of(tmp_path / "small", size=(8, 8))
    masks_of(tmp_path / "named", "99999.png")
    arguments, text = REFUSED[what]
    assert exit_code("predict", str(checkpoint), "clip", *arguments) == 2
    shown = capsys.readouterr().err
    assert text in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("checkpoint_name", "text"), [("no.ckpt", "no.ckpt"), ("clip", "no checkpoints")])
def test_a_checkpoint_that_is_none_is_one_message(
    exit_code, clip: Path, tmp_path: Path, monkeypatch, capsys, checkpoint_name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code("predict", checkpoint_name, "clip", "--point", "5,5") == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_another_call_is_not_resumed(run, exit_code, checkpoint, clip: Path, capsys) -> None:
    run(clip, "--point", "20,20", "--out", "out", "--formats", "csv")
    given = [str(checkpoint), str(clip), "--point", "21,20", "--resume", "out", "--formats", "csv"]
    assert exit_code("predict", *given) == 2
    assert "prompts_sha256" in capsys.readouterr().err
