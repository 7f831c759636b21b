"""Frames of stored videos are encoded together, the same ones wherever tracking begins or continues."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vt.core.prediction import following
from sam2vt.core.prediction.engine import Engine, MaskOptions
from sam2vt.core.prediction.following import Following, in_groups
from sam2vt.core.prediction.sources import open_sources
from sam2vt.core.prediction.types import Click, ObjectPrompt, VideoPrompts
from sam2vt.core.prediction.weights import open_weights
from sam2vt.errors import DataError

from .conftest import SIZE

NUM_FRAMES = 10


@pytest.fixture
def engine(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One that counts the images of each call of the encoder, in `engine.calls`."""
    engine = Engine(open_weights(str(weights), device="cpu", image_size=SIZE), MaskOptions())
    engine.calls, encode = [], engine.model.encode

    def counting(images):
        engine.calls.append(len(images))
        return encode(images)

    monkeypatch.setattr(engine.model, "encode", counting)
    return engine


def follow(engine: Engine, path: Path, prompted: int, direction: str = "forward") -> Following:
    prompts = VideoPrompts((ObjectPrompt(1, prompted, clicks=(Click(20, 20, True),)),))
    return Following(engine, open_sources(str(path))[0], prompts, direction)


@pytest.mark.parametrize(
    ("indices", "number", "expected"),
    [
        (range(7), 3, [[0, 1, 2], [3, 4, 5], [6]]),
        (range(4, 8), 3, [[4, 5], [6, 7]]),
        (range(7, 2, -1), 4, [[7, 6, 5, 4], [3]]),
        (range(3), 1, [[0], [1], [2]]),
        ([], 4, []),
    ],
)
def test_groups_begin_at_multiples(indices, number: int, expected: list[list[int]]) -> None:
    found = in_groups(((index, np.zeros(1)) for index in indices), number)
    assert [[index for index, _ in group] for group in found] == expected


@pytest.mark.parametrize("readable", [0, 2, 3, 4])
def test_an_error_comes_after_the_frames_before_it(readable: int) -> None:
    def frames() -> Iterator[tuple[int, np.ndarray]]:
        yield from ((index, np.zeros(1)) for index in range(readable))
        raise DataError("frame cannot be read")

    seen: list[int] = []

    def read() -> None:
        for group in in_groups(frames(), 3):
            seen.extend(index for index, _ in group)

    with pytest.raises(DataError, match="cannot be read"):
        read()
    assert seen == list(range(readable))


@pytest.mark.parametrize(
    ("prompted", "direction", "calls"),
    [
        # The prompted frame is encoded alone, ahead of the others.
        (0, "forward", [1, 4, 4, 2]),
        (5, "forward", [1, 4, 2]),
        (9, "backward", [1, 2, 4, 4]),
        (5, "both", [1, 4, 2, 4, 4]),
    ],
)
def test_four_small_frames_are_one_call(
    engine: Engine, frames, tmp_path: Path, prompted: int, direction: str, calls: list[int]
) -> None:
    list(follow(engine, frames(tmp_path / "clip", NUM_FRAMES), prompted, direction).masks())
    assert engine.calls == calls


def test_large_frames_are_encoded_alone(
    engine: Engine, frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_PIXELS_TOGETHER", 2 * SIZE * SIZE - 1)
    list(follow(engine, frames(tmp_path / "clip", NUM_FRAMES), 0).masks())
    assert engine.calls == [1] * NUM_FRAMES


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_it_continues_to_the_same_bits_behind_any_frame(
    engine: Engine, frames, tmp_path: Path, direction: str
) -> None:
    path, prompted = frames(tmp_path / "clip", NUM_FRAMES), 1 if direction == "forward" else 8
    whole, found = follow(engine, path, prompted, direction), []
    states = []
    for masks in whole.masks():
        found.append([(masks.frame, each.iou, each.presence) for each in masks.objects])
        states.append(io.BytesIO())
        torch.save(whole.state(), states[-1])
    for place, state in enumerate(states):
        again = follow(engine, path, prompted, direction)
        state.seek(0)
        again.restore(torch.load(state, weights_only=True))
        rest = [[(m.frame, each.iou, each.presence) for each in m.objects] for m in again.masks()]
        assert rest == found[place + 1 :], place
