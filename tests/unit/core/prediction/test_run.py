"""Whole calls: what is written, and that a call which was stopped anywhere ends with the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from sam2vt.core.prediction import run
from sam2vt.core.prediction.association import Association
from sam2vt.core.prediction.call import Call, load_masks
from sam2vt.core.prediction.detection_files import read_detections
from sam2vt.core.prediction.engine import Engine, MaskOptions
from sam2vt.core.prediction.journal import Journal
from sam2vt.core.prediction.prompt_files import read_prompts
from sam2vt.core.prediction.sources import open_sources
from sam2vt.core.prediction.types import FrameMasks, VideoPrompts
from sam2vt.core.prediction.weights import open_weights
from sam2vt.errors import ConfigError, DataError

from .conftest import HEIGHT, SIZE, WIDTH

NUM_FRAMES = 8
PROMPTS = {
    "version": 1,
    "objects": [
        {
            "id": 1,
            "name": "cup",
            "prompts": [
                {"frame": 2, "points": [[20, 20]]},
                {"frame": 4, "points": [[30, 30]], "labels": [0], "correct": True},
            ],
        },
        {"id": 3, "prompts": [{"frame": 3, "box": [5, 5, 30, 30]}], "remove_at": 6},
    ],
}
DETECTIONS = {
    "version": 1,
    "frames": [
        {"frame": 1, "detections": [{"class": "cup", "box": [5, 5, 30, 30]}]},
        {"frame": 3, "detections": [{"class": "hand", "box": [10, 10, 40, 40]}]},
        {"frame": 5, "detections": [{"class": "hand", "box": [0, 0, 64, 48]}]},
    ],
}


@pytest.fixture(scope="module")
def engine(weights: Path) -> Engine:
    return Engine(open_weights(str(weights), device="cpu", image_size=SIZE), MaskOptions())


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[str], run.Given]:
    """Prompts or detections, read from a file anew as a resumed call does."""

    def give(kind: str) -> run.Given:
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps(PROMPTS if kind == "prompts" else DETECTIONS))
        if kind == "prompts":
            prompts = read_prompts(str(path))
            return lambda source: (prompts.for_video(source.video_id, HEIGHT, WIDTH, NUM_FRAMES), None)
        found = read_detections(str(path), ["clip"]).for_video("clip", HEIGHT, WIDTH, NUM_FRAMES)
        return lambda source: (VideoPrompts(()), Association(found, 0.1, reprompt_every=2, end_after=2))

    return give


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder; videos by what is in their packets."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


FORMATS = ("png", "coco", "overlay", "csv")
CASES = [("prompts", "forward"), ("prompts", "backward"), ("prompts", "both"), ("detections", "forward")]


@pytest.mark.parametrize(("kind", "direction"), CASES)
def test_a_call_that_was_stopped_ends_with_the_same_bytes(
    engine: Engine, asked, video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, direction: str
) -> None:
    clip = video(tmp_path / "clip.mp4", NUM_FRAMES)
    whole = Call(tmp_path / "whole")
    run.predict(run.Plan(engine, asked(kind), FORMATS, direction), open_sources(str(clip)), whole)
    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    stopped, append, left = Call(tmp_path / "stopped"), Journal.append, [3]

    def stopping(journal: Journal, masks) -> None:
        append(journal, masks)
        left[0] -= 1
        if left[0] == 0:  # behind a line that no saved state counts
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", stopping)
    calls = 0
    while True:
        calls += 1
        left[0] = 3
        try:
            run.predict(run.Plan(engine, asked(kind), FORMATS, direction), open_sources(str(clip)), stopped)
            break
        except KeyboardInterrupt:
            assert not stopped.is_finished("clip")
    assert calls >= 2
    assert contents(stopped.folder) == contents(whole.folder)


@pytest.mark.parametrize(
    ("length", "tracked", "says"),
    [
        (100, [0, 1, 2, 3], "frame 3 of 100, 2 frames/s, at most 48 s left"),
        (100, [7, 6, 5, 4], "frame 4 of 100, 2 frames/s, at most 48 s left"),  # backward
        (3, [0, 1, 2, 1], "frame 1 of 3, 2 frames/s"),  # both ways meet some frames twice
        (None, [0, 1, 2, 3], "frame 3, 2 frames/s"),
    ],
)
def test_progress_tells_speed_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog, length: int | None, tracked: list[int], says: str
) -> None:
    """Two frames per second; the frames of a call before this one count, but not for the speed."""
    now = [0.0]
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(run, "_TELL_EVERY", 2.0)
    progress = run._Progress("video 1 of 1, clip", SimpleNamespace(num_frames=length), None)
    with caplog.at_level("INFO", logger=run.__name__):
        for frame in tracked:
            now[0] += 0.5
            progress.count(FrameMasks(frame, 1, 1, ()))
        assert caplog.messages == [f"video 1 of 1, clip: {says}"]
        again = run._Progress("clip", SimpleNamespace(num_frames=50), {**progress.state(), "frames": 40})
        now[0] += 2.0
        again.count(FrameMasks(41, 1, 1, ()))
    assert caplog.messages[1:] == ["clip: frame 41 of 50, 0.5 frames/s, at most 18 s left"]


def test_what_was_tracked_is_loaded_again(engine: Engine, asked, video, tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.mp4", NUM_FRAMES)
    call = Call(tmp_path / "out")
    run.predict(run.Plan(engine, asked("prompts"), FORMATS, "both"), open_sources(str(clip)), call)
    loaded = load_masks(call.folder)["clip"]
    frames = list(loaded.frames())
    assert [[each.object_id for each in frame.objects] for frame in frames] == [
        *([[1, 3]] * 6),
        *([[1]] * 2),
    ]
    assert frames[0].objects[0].name == "cup"
    # Object 3 comes from the way back, object 1 from the way forward.
    assert not np.logical_and(*frames[2].masks.values()).any()
    assert all(each.mask.shape == (HEIGHT, WIDTH) for frame in frames for each in frame.objects)
    assert any(each.mask.any() for frame in frames for each in frame.objects)


def test_an_object_that_the_detector_lost_is_tracked_no_longer(
    engine: Engine, asked, video, tmp_path: Path
) -> None:
    """Frame 3 has a hand alone, and the cup may be absent for two frames."""
    clip, call = video(tmp_path / "clip.mp4", NUM_FRAMES), Call(tmp_path / "out")
    run.predict(run.Plan(engine, asked("detections"), ["csv"]), open_sources(str(clip)), call)
    frames = load_masks(call.folder)["clip"].frames()
    assert [frame.frame for frame in frames if 1 in frame.masks] == [1, 2, 3, 4]


def test_a_stopped_call_passes_over_finished_videos_and_writes_what_is_missing(
    engine: Engine, video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        video(tmp_path / "clips" / f"{name}.mp4", NUM_FRAMES)
    sources = open_sources(str(tmp_path / "clips"))
    shown = PROMPTS | {"videos": {name: {"objects": PROMPTS["objects"]} for name in ("a", "b")}}
    del shown["objects"]
    (tmp_path / "p.json").write_text(json.dumps(shown))
    prompts, seen = read_prompts(str(tmp_path / "p.json")), []

    def given(source):
        seen.append(source.video_id)
        return prompts.for_video(source.video_id, HEIGHT, WIDTH, NUM_FRAMES), None

    plan, call, write = run.Plan(engine, given, FORMATS), Call(tmp_path / "out"), run.write_outputs

    def refusing(formats, tracked, folder) -> None:
        if tracked.name == "b":
            raise DataError("the disk is full")
        write(formats, tracked, folder)

    monkeypatch.setattr(run, "write_outputs", refusing)
    with pytest.raises(DataError, match="full"):
        run.predict(plan, sources, call)
    assert call.is_finished("a")
    assert (call.folder / "overlay" / "a.mp4").exists()
    monkeypatch.setattr(run, "write_outputs", write)
    run.predict(plan, open_sources(str(tmp_path / "clips")), call)
    assert seen == ["a", "b"]  # b was tracked, and only its files were missing
    assert (call.folder / "overlay" / "b.mp4").exists()
    coco = json.loads((call.folder / "annotations.json").read_bytes())
    assert {each["video_id"] for each in coco["images"]} == {"a", "b"}


def test_a_pipe_is_tracked_as_it_comes(engine: Engine, asked, video, tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.ts", NUM_FRAMES, container="mpegts")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if os.fork() == 0:  # ffmpeg's side
        with pipe.open("wb") as sink:
            sink.write(clip.read_bytes())
        os._exit(0)
    source = open_sources(str(pipe))[0]
    call = Call(tmp_path / "out")
    prompts = read_prompts(str(write_json(tmp_path / "p.json", PROMPTS)))
    given = lambda opened: (prompts.for_video(opened.video_id, HEIGHT, WIDTH, None), None)  # noqa: E731
    (tracked,) = run.predict(run.Plan(engine, given, FORMATS), [source], call)
    os.wait()
    assert tracked.num_frames == NUM_FRAMES
    assert [len(frame.objects) for frame in tracked.frames()] == [0, 0, 1, 2, 2, 2, 1, 1]
    assert (call.folder / "overlay" / f"{tracked.name}.mp4").exists()


def test_a_pipe_that_is_continued_has_the_same_overlay(
    engine: Engine, asked, video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames come again from the start, with the masks of those that were tracked before."""
    clip = video(tmp_path / "clip.ts", NUM_FRAMES, container="mpegts")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    append = Journal.append

    def track(call: Call) -> None:
        Thread(target=lambda: pipe.open("wb").write(clip.read_bytes())).start()
        prompts = read_prompts(str(write_json(tmp_path / "p.json", PROMPTS)))
        given = lambda opened: (prompts.for_video(opened.video_id, HEIGHT, WIDTH, None), None)  # noqa: E731
        run.predict(run.Plan(engine, given, FORMATS), open_sources(str(pipe)), call)

    def stopping(journal: Journal, masks) -> None:
        append(journal, masks)
        if masks.frame == 5:
            raise KeyboardInterrupt

    whole, stopped = Call(tmp_path / "whole"), Call(tmp_path / "stopped")
    track(whole)
    monkeypatch.setattr(Journal, "append", stopping)
    with pytest.raises(KeyboardInterrupt):
        track(stopped)
    monkeypatch.setattr(Journal, "append", append)
    track(stopped)
    assert contents(stopped.folder) == contents(whole.folder)


def test_a_finished_call_is_written_in_other_formats_without_tracking(
    engine: Engine, asked, video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, call = video(tmp_path / "clip.mp4", NUM_FRAMES), Call(tmp_path / "out")
    run.predict(run.Plan(engine, asked("prompts"), ["csv"]), open_sources(str(clip)), call)
    assert call.is_finished("clip", ["csv"])
    assert not call.is_finished("clip", ["csv", "coco"])
    monkeypatch.setattr(run, "Following", None)
    for formats in (["coco", "png"], ["overlay"]):
        run.predict(run.Plan(engine, asked("prompts"), formats), open_sources(str(clip)), call)
    assert call.is_finished("clip", FORMATS)
    whole = Call(tmp_path / "whole")
    monkeypatch.undo()
    run.predict(run.Plan(engine, asked("prompts"), FORMATS), open_sources(str(clip)), whole)
    files = {name for name in contents(whole.folder) if not name.startswith("journals")}
    assert {name: contents(call.folder)[name] for name in files} == {
        name: contents(whole.folder)[name] for name in files
    }


def write_json(path: Path, content) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_another_call_is_not_continued(tmp_path: Path) -> None:
    Call(tmp_path).begin({"direction": "both", "presence": 0.5})
    Call(tmp_path).begin({"direction": "both", "presence": 0.5})
    with pytest.raises(ConfigError, match="direction: was 'both', is 'forward'") as caught:
        Call(tmp_path).begin({"direction": "forward", "presence": 0.5})
    assert len(caught.value.faults) == 1


def test_formats_may_be_others_and_all_are_told(tmp_path: Path) -> None:
    assert Call(tmp_path).begin({"presence": 0.5, "formats": ["csv"]}) == ["csv"]
    assert Call(tmp_path).begin({"presence": 0.5, "formats": ["png", "csv"]}) == ["csv", "png"]
    assert Call(tmp_path).begin({"presence": 0.5, "formats": ["coco"]}) == ["csv", "png", "coco"]
    with pytest.raises(ConfigError, match="presence"):
        Call(tmp_path).begin({"presence": 0.4, "formats": ["csv"]})


def test_a_folder_is_of_one_call_at_a_time(tmp_path: Path) -> None:
    with Call(tmp_path).alone(), pytest.raises(ConfigError, match="another call"), Call(tmp_path).alone():
        pass
    with Call(tmp_path).alone():
        pass


def test_a_state_of_a_gpu_is_continued_on_a_cpu(
    engine: Engine, asked, video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the other way round: it is loaded to the device that tracks now."""
    clip, call = video(tmp_path / "clip.mp4", NUM_FRAMES), Call(tmp_path / "out")
    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    save = Call.save

    def stopping(call: Call, name: str, state) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
            save(call, name, state)
        raise KeyboardInterrupt

    plan = run.Plan(engine, asked("prompts"), ["csv"])
    monkeypatch.setattr(Call, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        run.predict(plan, open_sources(str(clip)), call)
    assert call.saved("clip", "meta")["following"]["session"]["cohorts"][0]["bank"][0][0][1].is_meta
    monkeypatch.undo()
    run.predict(plan, open_sources(str(clip)), call)
    assert call.is_finished("clip")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_a_damaged_state_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journals").mkdir()
    (tmp_path / "journals" / "clip.state").write_bytes(content)
    with pytest.raises(DataError, match="remove it"):
        Call(tmp_path).saved("clip")


def test_a_folder_without_masks_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished video"):
        load_masks(tmp_path)


def test_overlaps_are_kept_where_asked(weights: Path, video, tmp_path: Path) -> None:
    options = MaskOptions(overlaps="keep")
    engine = Engine(open_weights(str(weights), device="cpu", image_size=SIZE), options)
    clip = video(tmp_path / "clip.mp4", 2)
    shown = {
        "version": 1,
        "objects": [{"id": n, "prompts": [{"frame": 0, "points": [[20, 20 + n]]}]} for n in (1, 2)],
    }
    prompts = read_prompts(str(write_json(tmp_path / "p.json", shown)))
    given = lambda source: (prompts.for_video("clip", HEIGHT, WIDTH, 2), None)  # noqa: E731
    call = Call(tmp_path / "out")
    run.predict(run.Plan(engine, given, ("objects",)), open_sources(str(clip)), call)
    frame = next(load_masks(call.folder)["clip"].frames())
    assert np.logical_and(*frame.masks.values()).any()
