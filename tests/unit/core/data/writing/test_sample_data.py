"""The generated dataset: what it promises to a demo and to tests."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing.sample_data import draw_scene, write_sample_data
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

SIZE = (96, 128)
NUM_FRAMES = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample")
    write_sample_data(out, num_videos=3, num_frames=NUM_FRAMES, size=SIZE)
    return out


@pytest.fixture(scope="module")
def records(folder: Path) -> list[VideoRecord]:
    return load_records("auto", str(folder))


def label_masks(labels: np.ndarray, num_objects: int) -> np.ndarray:
    """[frames, h, w] -> bool [objects, frames, h, w]."""
    return np.stack([labels == i for i in range(1, num_objects + 1)])


def held_mask_jaccard(masks: np.ndarray) -> float:
    """DAVIS J of repeating the first mask: frames but the first and last, 1 where both are empty."""
    scores = []
    for frames in masks:
        for mask in frames[1:-1]:
            union = (mask | frames[0]).sum()
            scores.append((mask & frames[0]).sum() / union if union else 1.0)
    return float(np.mean(scores))


def masks_on_disk(record: VideoRecord) -> np.ndarray:
    labels = np.stack([np.array(Image.open(record.annotations[i].path)) for i in record.annotated_frames])
    return label_masks(labels, labels.max())


def test_is_found_as_folders_and_video_files(records):
    assert [record.video_id for record in records] == ["sample_00", "sample_01", "sample_02"]
    assert [record.video_path is not None for record in records] == [False, True, False]
    for record in records:
        assert (record.num_frames, record.height, record.width) == (NUM_FRAMES, *SIZE)
        assert record.annotated_frames == list(range(NUM_FRAMES))
    assert [len(load_masks(record, 0)) for record in records] == [2, 1, 1]


def test_repeating_the_first_mask_fails(records):
    for record in records:
        assert held_mask_jaccard(masks_on_disk(record)) <= 0.35


def test_objects_are_large_and_move_slowly(records):
    for record in records:
        masks = masks_on_disk(record)
        area = masks.mean(axis=(2, 3))
        assert area[:, 0].min() > 0.08
        assert all(row[row > 0].mean() > 0.08 for row in area)
        assert not (area[:, -1] == 0).any()
        for object_masks in masks:
            # Where an object is seen nearly whole, so that its centre is not moved by what hides it.
            whole = [mask if mask.mean() > 0.11 else None for mask in object_masks]
            centres = [None if mask is None else np.argwhere(mask).mean(axis=0) for mask in whole]
            pairs = [(a, b) for a, b in pairwise(centres) if a is not None and b is not None]
            steps = [np.hypot(*(b - a)) for a, b in pairs]
            assert max(steps) < 6  # pixels of 128
            assert np.median(steps) > 0.5


def test_the_one_in_front_leaves_and_comes_back_and_the_one_behind_is_crossed(records):
    both, front, behind = (masks_on_disk(record).mean(axis=(2, 3)) for record in records)
    for area in (both[1], front[0]):
        assert 3 <= (area == 0).sum() < 0.15 * NUM_FRAMES
    for area in (both[0], behind[0]):
        assert area.min() > 0
        assert area.min() < area.max() * 2 / 3


@pytest.mark.parametrize("seed", range(1, 5))
def test_the_promise_holds_for_other_seeds_and_shapes(seed):
    size = [(48, 64), (64, 64), (64, 48)][seed % 3]
    scene = draw_scene(np.random.default_rng(seed), 50, size)
    masks = label_masks(np.stack([scene.frame(i)[1] for i in range(50)]), 2)
    assert held_mask_jaccard(masks[:1]) <= 0.35
    assert held_mask_jaccard(masks[1:]) <= 0.35
    assert masks[:, 0].mean(axis=(1, 2)).min() > 0.08


def test_frames_and_masks_fit_each_other(records):
    """Objects are saturated, the background is not: also in the decoded mp4, on every frame."""
    for record in records:
        frames = read_frames(record, range(0, NUM_FRAMES, 7)).astype(int)
        saturation = (frames.max(axis=3) - frames.min(axis=3)) / np.maximum(frames.max(axis=3), 1)
        for strong, index in zip(saturation > 0.5, range(0, NUM_FRAMES, 7)):
            mask = np.any([*load_masks(record, index).values(), np.zeros_like(strong)], axis=0)
            if record is records[0]:  # in the others something that is not followed is strong too
                assert (strong & mask).sum() / (strong | mask).sum() > 0.9
            assert (strong & mask).sum() >= 0.9 * mask.sum()


def test_neighbouring_frames_differ_little_but_are_not_alike(records):
    for record in records:
        frames = read_frames(record, range(10)).astype(int)
        change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        assert change.min() > 0.5
        assert change.max() < 30


def test_the_same_seed_writes_the_same_files(tmp_path):
    def digest(name: str, seed: int) -> dict[str, str]:
        out = tmp_path / name
        write_sample_data(str(out), num_videos=2, num_frames=4, size=(64, 64), seed=seed)
        files = sorted(path for path in out.rglob("*") if path.is_file())
        return {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    first = digest("a", 1)
    assert len(first) == 4 + 1 + 8
    assert first == digest("b", 1)
    assert first != digest("c", 2)


def test_masks_are_palette_images(folder):
    with Image.open(folder / "Annotations" / "sample_00" / "00000.png") as image:
        assert image.mode == "P"
        assert sorted(np.unique(np.asarray(image))) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_videos": 0}, "num_videos=0"),
        ({"num_frames": 2}, "num_frames=2"),
        ({"size": (95, 128)}, "even"),
        ({"size": (64, 256)}, "twice"),
    ],
)
def test_bad_arguments_are_errors(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        write_sample_data(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("written", ["write_video", "Image.Image.save"])
def test_a_full_disk(tmp_path, monkeypatch, written):
    def fail(*arguments, **keywords):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # Pillow names no file

    monkeypatch.setattr(f"sam2vt.core.data.writing.sample_data.{written}", fail)
    with pytest.raises(DataError) as caught:
        write_sample_data(tmp_path / "out", num_videos=2, num_frames=3, size=SIZE)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'out'}: cannot be written: No space left on device; ")
    assert re.search(r"\d+ bytes are left on its disk: free some space there, or choose .* another", message)
    assert "remove what was written" in message


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/out: cannot be written: .*; choose a folder .* may write to$"):
        write_sample_data(tmp_path / "file/out", num_videos=1, num_frames=3, size=SIZE)


def test_nothing_is_written_over(folder):
    with pytest.raises(DataError, match="not an empty folder"):
        write_sample_data(folder)
