"""Overlays: every frame is there, masks and labels are where the objects are, and players can play them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from sam2vt.core.evaluation.drawing import draw_labels
from sam2vt.core.evaluation.palette import COLOURS
from sam2vt.core.prediction.outputs import write_outputs
from sam2vt.core.prediction.outputs.overlay import OverlayWriter, label_texts, overlay_path
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.errors import DataError


def decoded(path: Path) -> tuple[list[np.ndarray], av.video.stream.VideoStream]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], stream


def disc(size: tuple[int, int], centre: tuple[int, int], radius: int) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


@pytest.mark.parametrize("mp4", [False, True], ids=["images", "mp4"])
@pytest.mark.parametrize("size", [(120, 160), (61, 83)])
def test_frames_are_those_of_the_source(tracked, tmp_path: Path, mp4: bool, size: tuple[int, int]) -> None:
    video, _ = tracked((1,), num_frames=7, size=size, mp4=mp4)
    write_outputs(["overlay"], video, tmp_path)
    frames, stream = decoded(overlay_path(tmp_path, "clip"))
    assert len(frames) == 7
    # Players need even sizes.
    assert frames[0].shape[:2] == tuple(each + each % 2 for each in size)
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == 12
    assert abs(np.median(frames[2]) - 60) < 4  # frame 2, on which nobody is


def test_the_index_comes_first(tracked, tmp_path: Path) -> None:
    video, _ = tracked()
    write_outputs(["overlay"], video, tmp_path)
    data = overlay_path(tmp_path, "clip").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_masks_and_labels_are_where_the_objects_are(tmp_path: Path) -> None:
    """Also of objects that come later, which take no other object's colour."""
    size, gray = (240, 320), np.full((240, 320, 3), 100, np.uint8)
    left, right = disc(size, (120, 70), 30), disc(size, (150, 250), 30)
    absent = np.zeros(size, bool)
    with OverlayWriter(tmp_path / "o.mp4", fps=10) as writer:
        for i, masks in enumerate([{4: left}, {2: right, 4: left}, {2: right, 4: absent}]):
            objects = (ObjectMask(key, "cat" if key == 2 else "", mask, 1, 1) for key, mask in masks.items())
            writer.add(gray, FrameMasks(i, *size, tuple(objects)))
    frames, _ = decoded(tmp_path / "o.mp4")
    first, second = (0.58 * 100 + 0.42 * np.array(COLOURS[place]) for place in (0, 1))
    for i, (mask, colour) in enumerate([(left, first), (left, first), (right, second)]):
        assert np.abs(np.median(frames[i][mask], axis=0) - colour).max() < 8
    assert np.abs(np.median(frames[2][left].astype(int), axis=0) - 100).max() < 8
    # The label ends where the object's box begins, and is drawn in its colour.
    label = frames[1][108:120, 222:230]
    assert np.abs(np.median(label.reshape(-1, 3), axis=0) - COLOURS[1]).max() < 40


def test_labels_of_close_objects_do_not_cover_each_other() -> None:
    """Each is drawn as one alone would be, at another height; where nothing is free, at its own place."""
    ground = np.zeros((240, 320, 3), np.uint8)
    corners = [(100, 60), (104, 62), (96, 57), (110, 0), (112, 3), (300, 61)]
    drawn = draw_labels(ground, ((f"cup {n}", n, corner) for n, corner in enumerate(corners)))
    for n, corner in enumerate(corners):
        alone = draw_labels(ground, [(f"cup {n}", n, corner)])
        here, there = ((image == COLOURS[n]).all(2).sum() for image in (drawn, alone))
        assert here == there > 100
    small = np.zeros((14, 60, 3), np.uint8)
    assert (draw_labels(small, [("a", 0, (5, 13)), ("b", 1, (5, 13))]) == COLOURS[1]).all(2).any()


def test_objects_of_one_name_are_told_apart() -> None:
    named = ((1, "cup"), (2, ""), (3, "cup"), (4, "hand"), (5, ""))
    mask = np.ones((2, 2), bool)
    frame = FrameMasks(0, 2, 2, tuple(ObjectMask(key, name, mask, 1, 1) for key, name in named))
    assert label_texts(frame) == {1: "cup 1", 2: "2", 3: "cup 3", 4: "hand", 5: "5"}


@pytest.mark.parametrize("fps", [float("nan"), 0.0, 1e9, 29.97])
def test_rates_that_nobody_plays_become_some_that_are(tmp_path: Path, fps: float) -> None:
    with OverlayWriter(tmp_path / "o.mp4", fps) as writer:
        for i in range(3):
            writer.add(np.zeros((32, 32, 3), np.uint8), FrameMasks(i, 32, 32, ()))
    frames, stream = decoded(tmp_path / "o.mp4")
    assert len(frames) == 3
    assert 1 <= stream.average_rate <= 240


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with OverlayWriter(tmp_path / "none.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_one_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with OverlayWriter(tmp_path / "half.mp4") as writer:
            writer.add(np.zeros((32, 32, 3), np.uint8), FrameMasks(0, 32, 32, ()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_ended_early(tracked, tmp_path: Path) -> None:
    video, _ = tracked(num_frames=5)
    video.journal.write_text("".join(video.journal.read_text().splitlines(keepends=True)[:3]))
    write_outputs(["overlay"], replace(video, num_frames=3, stems=video.stems[:3]), tmp_path)
    assert len(decoded(overlay_path(tmp_path, "clip"))[0]) == 3


def test_of_a_live_source_nothing_is_written_afterwards(tracked, tmp_path: Path) -> None:
    video, _ = tracked()
    gone = replace(video, record=None)
    with pytest.raises(DataError, match="came once"):
        write_outputs(["overlay"], gone, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    drawn = overlay_path(tmp_path, video.name)  # while it was tracked
    drawn.parent.mkdir()
    drawn.write_bytes(b"drawn")
    write_outputs(["overlay"], gone, tmp_path)
    assert drawn.read_bytes() == b"drawn"


def test_an_encoder_that_refuses_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise av.error.ExternalError(-1, "encoder")

    monkeypatch.setattr(OverlayWriter, "_drawn", refuse)
    writer = OverlayWriter(tmp_path / "o.mp4")
    with pytest.raises(DataError, match="cannot be encoded.*leave out overlay"):
        writer.add(np.zeros((32, 32, 3), np.uint8), FrameMasks(0, 32, 32, ()))
