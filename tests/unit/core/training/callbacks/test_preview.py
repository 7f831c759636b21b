"""The picture of the first clips that a run trains on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam2vt.config import Config
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.dataset import VideoDataset
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.evaluation.sheets import draw_sheet
from sam2vt.core.training.callbacks.preview import FirstBatches, clips_of


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> VideoDataset:
    folder = tmp_path_factory.mktemp("data")
    write_sample_data(folder, num_videos=3, num_frames=5, size=(48, 64))
    return VideoDataset(folder, image_size=(64, 64), video_clip_length=3)


def started(callback: FirstBatches, **trainer: Any) -> FirstBatches:
    callback.on_train_start(SimpleNamespace(**{"is_global_zero": True, "global_step": 0, **trainer}), None)  # type: ignore[arg-type]
    return callback


def give(callback: FirstBatches, *batches: Any) -> None:
    for i, batch in enumerate(batches):
        callback.on_train_batch_start(None, None, batch, i)  # type: ignore[arg-type]


def test_the_clips_of_a_batch_are_those_that_were_collated(dataset) -> None:
    clips = [dataset[i] for i in range(3)]
    # A slot more than an object has: padding is not an object whose masks are unknown.
    clips[0] = {**clips[0], "masks": clips[0]["masks"][:, :1], "valid_masks": clips[0]["valid_masks"][:, :1]}
    clips[0] |= {
        "prompts": clips[0]["prompts"][:1],
        "object_ids": clips[0]["object_ids"][:1],
        "num_objects": 1,
    }
    found = clips_of(collate_fn(clips), 2)
    assert len(found) == 2
    assert np.array_equal(draw_sheet(found), draw_sheet(clips[:2]))


def test_a_picture_of_the_first_clips_alone(dataset, tmp_path) -> None:
    callback = started(FirstBatches(tmp_path / "preview.png", number=3))
    batches = [collate_fn([dataset[0], dataset[1]]), collate_fn([dataset[2], dataset[0]])]
    give(callback, batches[0])
    assert not (tmp_path / "preview.png").exists()
    give(callback, batches[1])
    drawn = np.asarray(Image.open(tmp_path / "preview.png"))
    assert np.array_equal(drawn, draw_sheet([dataset[0], dataset[1], dataset[2]]))
    (tmp_path / "preview.png").unlink()
    give(callback, *batches)
    callback.on_train_end(None, None)  # type: ignore[arg-type]
    assert not (tmp_path / "preview.png").exists()


@pytest.mark.parametrize("mosaic", [0.0, 0.5])
def test_the_objects_have_their_names(dataset, tmp_path, mosaic: float) -> None:
    """As in the picture of `sam2vt preview`: not where a frame has objects of several videos."""
    names = {each.video_id: {1: "cystic_duct", 2: "liver"} for each in dataset.records}
    config = Config(seed=3)
    config.dataset.clips_per_video, config.dataset.augment.mosaic_probability = 2, mosaic
    named_by = {"object_names": {1: "cystic_duct"}, "classes": {0: "liver"}}  # of ids below 1000
    records = [replace(each, **named_by) for each in dataset.records]
    data = SimpleNamespace(train_records=records, config=config)
    callback = started(FirstBatches(tmp_path / "preview.png", number=2))
    batch = collate_fn([dataset[0], dataset[2]])
    callback.on_train_batch_start(SimpleNamespace(datamodule=data, world_size=2), None, batch, 0)  # type: ignore[arg-type]
    drawn = np.asarray(Image.open(tmp_path / "preview.png"))
    plain, named = (draw_sheet([dataset[0], dataset[2]], given) for given in (None, names))
    assert np.array_equal(drawn, plain) == bool(mosaic)
    assert np.array_equal(drawn, named) != bool(mosaic)


def test_a_short_run_draws_at_its_end(dataset, tmp_path) -> None:
    callback = started(FirstBatches(tmp_path / "preview.png"))
    give(callback, collate_fn([dataset[0]]))
    callback.on_train_end(None, None)  # type: ignore[arg-type]
    assert (tmp_path / "preview.png").exists()


@pytest.mark.parametrize("trainer", [{"global_step": 5}, {"is_global_zero": False}])
def test_a_resumed_run_and_other_ranks_draw_nothing(dataset, tmp_path, trainer) -> None:
    callback = started(FirstBatches(tmp_path / "preview.png", number=1), **trainer)
    give(callback, collate_fn([dataset[0]]))
    callback.on_train_end(None, None)  # type: ignore[arg-type]
    assert not (tmp_path / "preview.png").exists()


def test_batches_that_cannot_be_drawn_are_passed_over(dataset, tmp_path) -> None:
    callback = started(FirstBatches(tmp_path / "preview.png", number=1))
    batch = collate_fn([dataset[0]])
    lacking = {name: value for name, value in batch.items() if name != "num_objects"}
    normalised = {**batch, "images": batch["images"].to(torch.float32)}
    features = {name: value for name, value in batch.items() if name != "images"}
    give(callback, lacking, normalised, features)
    callback.on_train_end(None, None)  # type: ignore[arg-type]
    assert not (tmp_path / "preview.png").exists()
