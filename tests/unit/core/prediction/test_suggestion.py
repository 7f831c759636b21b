"""The command that a run ends with."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sam2vt.cli import parser_of
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.evaluation.jf import ObjectScore
from sam2vt.core.prediction.sources import open_sources
from sam2vt.core.prediction.suggestion import program, suggest_prediction
from sam2vt.core.types import VideoRecord


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Sequence[VideoRecord]:
    data = tmp_path_factory.mktemp("data") / "my data"
    write_sample_data(data, 2, 4)
    return load_records("video", data)


def score(video: VideoRecord, object_id: int, reached: float) -> ObjectScore:
    return ObjectScore(video.video_id, object_id, {"J": reached, "F": reached, "J&F": reached}, 4)


def suggest(videos: Sequence[VideoRecord], scores: Sequence[ObjectScore], kinds: list[str]) -> list[str]:
    command = shlex.split(suggest_prediction("runs/mine", videos, scores, kinds, "my data"))
    assert command[: len(program())] == program()
    assert command[len(program())] == "predict"
    return command[len(program()) + 1 :]


@pytest.mark.parametrize("kinds", [["mask", "point", "box"], ["box"], ["bbox", "mask"]])
def test_it_shows_the_object_that_scored_best_and_asks_for_nothing_else(
    videos: Sequence[VideoRecord], kinds: list[str]
) -> None:
    masks = load_masks(videos[0], 0)
    scores = [score(videos[1], 1, 0.2), score(videos[0], max(masks), 0.9), score(videos[0], 1, math.nan)]
    options = parser_of("predict").parse_args(suggest(videos, scores, kinds))
    mask = load_masks(videos[0], options.frame)[max(masks)]
    if "point" in kinds:
        x, y = map(int, options.point[0].split(","))
        assert mask[y, x]
    else:
        x0, y0, x1, y1 = map(int, options.box.split(","))
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
    (source,) = open_sources(options.source)
    assert (source.video_id, source.num_frames, source.has_masks) == (videos[0].video_id, 4, False)


def test_a_video_file_of_a_dataset_is_a_video(videos: Sequence[VideoRecord]) -> None:
    assert videos[1].video_path is not None
    options = parser_of("predict").parse_args(suggest(videos, [score(videos[1], 1, 0.2)], ["point"]))
    (source,) = open_sources(options.source)
    assert (source.video_id, source.num_frames, source.has_masks) == (videos[1].video_id, 4, False)


def test_a_model_that_was_trained_with_masks_gets_masks(videos: Sequence[VideoRecord]) -> None:
    assert suggest(videos, [], ["mask"]) == ["runs/mine", "my data"]


def test_masks_beside_the_frames_are_not_taken_for_frames(
    videos: Sequence[VideoRecord], tmp_path: Path
) -> None:
    """A pattern would track them as every second frame."""
    assert videos[0].frame_paths is not None
    images = Path(videos[0].frame_paths[0]).parent
    masks = images.parents[1] / "Annotations" / images.name
    for folder, ending in ((images, ""), (masks, "_mask")):
        for file in folder.iterdir():
            shutil.copy(file, tmp_path / f"{file.stem}{ending}{file.suffix}")
    (video,) = load_records("auto", tmp_path)
    assert suggest([video], [score(video, 1, 0.5)], ["point"]) == ["runs/mine", "my data"]


def test_a_program_that_is_not_on_the_path_is_named_by_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after `make demo`, which activates no environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert program() == [str(tmp_path / "bin" / "python"), "-m", "sam2vt"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sam2vt").touch()
    assert program() == [str(tmp_path / "bin" / "sam2vt")]
    (tmp_path / "sam2vt").touch(mode=0o755)
    assert program() == ["sam2vt"]
