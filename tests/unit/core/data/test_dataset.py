"""The contract's datasets and loader."""

from __future__ import annotations

import inspect
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DistributedSampler

from sam2vt.config import AugmentConfig, DatasetConfig, ValDatasetConfig
from sam2vt.core.data import dataset as data
from sam2vt.core.data.dataset import (
    COCODataset,
    VideoDataset,
    clip_spec,
    create_dataloader,
    dataset_from_config,
)
from sam2vt.core.types import Batch, SampleKey
from sam2vt.errors import ConfigError, DataError

HEIGHT, WIDTH, NUM_FRAMES = 40, 60, 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos of two objects that move."""
    for v in range(3):
        images, masks = tmp_path / "JPEGImages" / f"v{v}", tmp_path / "Annotations" / f"v{v}"
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        rng = np.random.default_rng(v)
        for i in range(NUM_FRAMES):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{i:05d}.jpg")
            labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            labels[5:20, 2 * i : 2 * i + 15], labels[22:38, 40:55] = 1, 2
            Image.fromarray(labels).save(masks / f"{i:05d}.png")
    return tmp_path


@pytest.fixture
def coco_json(folder: Path) -> Path:
    """Two of the videos as COCO video JSON, one object each, the images listed out of order."""
    images, annotations = [], []
    for v in range(2):
        for i in reversed(range(NUM_FRAMES)):
            image_id = 100 * v + i
            name = f"JPEGImages/v{v}/{i:05d}.jpg"
            images.append({"id": image_id, "video_id": v, "frame_id": i, "file_name": name})
            left = 2 * i + 1
            outline = [left, 5, left + 20, 5, left + 20, 30, left, 30]
            annotations.append(
                {
                    "id": image_id,
                    "image_id": image_id,
                    "category_id": 1,
                    "track_id": 4,
                    "segmentation": [outline],
                }
            )
    for each in images:
        each |= {"height": HEIGHT, "width": WIDTH}
    path = folder / "annotations.json"
    categories = [{"id": 1, "name": "tool"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def assert_equal(one: Batch, two: Batch) -> None:
    assert one.keys() == two.keys()
    for name in one:
        if torch.is_tensor(one[name]):
            assert torch.equal(one[name], two[name]), name
        elif name != "prompts":
            assert one[name] == two[name], name
    for prompts, others in zip(one["prompts"], two["prompts"], strict=True):
        for a, b in zip(prompts, others, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a.keys() - {"type"})


def test_video_dataset_has_its_signature_and_attributes(folder):
    assert str(inspect.signature(VideoDataset)).startswith(
        "(data_path: 'str | Path', image_size: 'tuple[int, int]' = (512, 512), video_clip_length: 'int' = 5, "
        "prompt_types: 'Sequence[str] | None' = None, number_of_points: 'tuple[int, int]' = (1, 3), "
        "include_center: 'bool' = False, num_of_neg_points: 'int' = 0, *"
    )
    dataset = VideoDataset(str(folder), (64, 64), 3, ["point"], num_of_neg_points=2)
    assert len(dataset) == 3
    assert dataset.data_path == folder
    assert dataset.image_size == (64, 64)
    assert dataset.video_clip_length == 3
    assert dataset.prompt_generator.number_of_pos_points == (1, 3)
    assert dataset.prompt_generator.num_of_neg_points == 2
    assert [clip["video_id"] for clip in dataset] == ["v0", "v1", "v2"]
    assert dataset[-1]["video_id"] == "v2"
    assert dataset[1]["images"].shape == (3, 3, 64, 64)
    with pytest.raises(IndexError, match="video 3 of a dataset of 3"):
        dataset[3]


def test_epochs_change_the_draw(folder):
    dataset = VideoDataset(str(folder), (64, 64), 2)
    windows = []
    for epoch in range(8):
        dataset.set_epoch(epoch)
        clip = dataset[0]
        windows.append(clip["frame_indices"][0])
        assert torch.equal(clip["images"], dataset[SampleKey(epoch, 0)]["images"])
    assert len(set(windows)) > 2


def test_coco_dataset_has_its_signature_and_attributes(coco_json):
    assert str(inspect.signature(COCODataset)).startswith(
        "(coco_json_path: 'str | Path', image_size: 'tuple[int, int]' = (512, 512), "
        "video_clip_length: 'int' = 5, prompt_types: 'Sequence[str] | None' = None, "
        "num_of_pos_points: 'int' = 1, include_center: 'bool' = False, num_of_neg_points: 'int' = 0, *"
    )
    dataset = COCODataset(str(coco_json), (64, 64), 3, ["point"], num_of_pos_points=2)
    assert len(dataset) == 2
    assert dataset.coco_json_path == coco_json
    assert (dataset.image_size, dataset.video_clip_length) == ((64, 64), 3)
    assert dataset.prompt_generator.number_of_pos_points == 2
    assert len(dataset.images) == len(dataset.annotations) == 2 * NUM_FRAMES
    assert [image["id"] for image in dataset.video_to_images[1]] == list(range(100, 107))
    assert [each["id"] for each in dataset.image_id_to_annotations[103]] == [103]
    for clip in dataset:
        assert clip["object_ids"] == [4]
        assert clip["valid_masks"].all()
        assert clip["prompts"][0]["point_labels"].tolist() == [1, 1]
        lefts = [int(mask[0].any(dim=0).nonzero()[0]) for mask in clip["masks"]]
        assert lefts == sorted(lefts)
        assert lefts[0] < lefts[-1]


def test_the_content_of_a_json_in_the_only_folder(coco_json, tmp_path):
    (tmp_path / "unpacked").mkdir()
    shutil.copytree(
        coco_json.parent, tmp_path / "unpacked/export", ignore=shutil.ignore_patterns("Annot*", "unpacked")
    )
    dataset = COCODataset(str(tmp_path / "unpacked"), (64, 64), 3)
    assert len(dataset.images) == 2 * NUM_FRAMES


def test_the_config_decides_class_and_points(folder, coco_json):
    shared = {"image_size": (64, 64), "num_of_pos_points": 3, "prompt_types": ["point"]}
    for kind in ("video", "auto"):
        dataset = dataset_from_config(DatasetConfig(kind, str(folder), **shared), seed=3, max_objects=1)
        assert isinstance(dataset, VideoDataset)
        assert dataset.prompt_generator.number_of_pos_points == (1, 3)
        assert (dataset.spec.seed, dataset.spec.max_objects) == (3, 1)
        validated = dataset_from_config(ValDatasetConfig(kind, str(folder), **shared))
        assert validated.prompt_generator.number_of_pos_points == (3, 3)
    for kind in ("coco", "auto"):
        dataset = dataset_from_config(DatasetConfig(kind, str(coco_json), **shared))
        assert isinstance(dataset, COCODataset)
        assert dataset.prompt_generator.number_of_pos_points == 3
    # Validation may hold back a part of the training set and have no path of its own.
    part = dataset_from_config(DatasetConfig("auto", "", **shared), records=dataset.records[1:])
    assert isinstance(part, COCODataset)
    assert part.coco_json_path == coco_json
    assert len(part) == 1
    assert len(part.images) == 2 * NUM_FRAMES


def test_every_setting_of_the_config_reaches_the_clips(folder):
    cfg = DatasetConfig(
        "video",
        str(folder),
        (32, 32),
        video_clip_length=2,
        prompt_types=["bbox"],
        frame_stride=3,
        max_conditioning_frames=2,
    )
    dataset = dataset_from_config(cfg, seed=1, max_objects=1)
    spec = clip_spec(cfg, 1, 1, dataset.records)
    assert (spec.image_size, spec.clip_length, spec.frame_stride) == ((32, 32), 2, 3)
    assert (spec.max_objects, spec.max_conditioning_frames, spec.seed) == (1, 2, 1)
    assert spec.prompts.prompt_types == ("box",)
    clip = dataset[0]
    assert clip["frame_indices"][1] - clip["frame_indices"][0] == 3
    assert clip["num_objects"] == 1


def test_no_video_is_an_error(folder, tmp_path):
    cfg = DatasetConfig("video", str(folder))
    with pytest.raises(DataError, match="no video"):
        dataset_from_config(cfg, records=[])
    with pytest.raises(DataError, match="at least one video"):
        VideoDataset(str(folder), records=[])
    with pytest.raises(DataError, match="nowhere"):
        create_dataloader("video", str(tmp_path / "nowhere"), ["point"])


def test_short_videos_are_warned_of_once(folder, caplog):
    with caplog.at_level(logging.WARNING):
        loader = create_dataloader(
            "video",
            str(folder),
            ["box"],
            num_workers=0,
            video_clip_length=9,
            image_size=(32, 32),
            clips_per_video=3,
        )
        batches = list(loader)
    assert len(batches) == 9
    assert [record.args[0] for record in caplog.records if record.levelno == logging.WARNING] == [
        "v0",
        "v1",
        "v2",
    ]
    assert all(batch["valid_masks"][0, :, 0].tolist() == [True] * 7 + [False] * 2 for batch in batches)


def test_create_dataloader_has_its_signature():
    assert str(inspect.signature(create_dataloader)).startswith(
        "(dataset_type: 'str', dataset_path: 'str | Path', prompt_types: 'Sequence[str] | None', "
        "batch_size: 'int' = 1, num_workers: 'int' = 4, shuffle: 'bool' = True, "
        "num_of_pos_points: 'int' = 1, "
        "include_center: 'bool' = False, num_of_neg_points: 'int' = 0, **kwargs"
    )
    assert {"PromptGenerator", "collate_fn"} <= vars(data).keys()


def test_batches_are_the_same_for_any_number_of_workers(folder):
    def batches(num_workers: int, **kwargs: object) -> list[Batch]:
        loader = create_dataloader(
            "auto",
            str(folder),
            None,
            batch_size=2,
            num_workers=num_workers,
            num_of_pos_points=3,
            image_size=(64, 64),
            video_clip_length=3,
            clips_per_video=3,
            seed=5,
            **kwargs,
        )
        found = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            found.append(list(loader))
        return found[0] + found[1]

    alone = batches(0)
    assert len(alone) == 8  # 9 clips an epoch, of which 8 fill batches
    assert len({str(batch["frame_indices"]) + str(batch["video_id"]) for batch in alone}) > 4
    persistent = {
        "persistent_workers": True,
        "multiprocessing_context": "fork",
        "worker_init_fn": check_worker,
    }
    for other in (batches(2, **persistent), batches(1)):
        assert len(other) == len(alone)
        for one, two in zip(alone, other):
            assert_equal(one, two)


def test_each_pass_over_a_loader_is_an_epoch(folder):
    options = {"num_workers": 0, "image_size": (64, 64), "video_clip_length": 2, "clips_per_video": 2}
    loader = create_dataloader("auto", folder, ["box"], **options)
    passes = [[batch["frame_indices"] for batch in loader] for _ in range(2)]
    assert passes[0] != passes[1]
    loader.sampler.set_epoch(0)
    assert [[batch["frame_indices"] for batch in loader] for _ in range(2)] == [passes[0]] * 2


def test_lightning_leaves_a_rank_s_share_as_it_is(folder):
    shares = create_dataloader("auto", folder, ["box"], num_workers=0, rank=1, world_size=2)
    assert isinstance(shares.sampler, DistributedSampler)
    whole = create_dataloader("auto", folder, ["box"], num_workers=0)
    assert not isinstance(whole.sampler, DistributedSampler)


def check_worker(worker_id: int) -> None:
    """Runs after the loader's own preparation of a worker."""
    import cv2

    assert cv2.getNumThreads() == 1
    assert worker_id in (0, 1)


def test_ranks_and_order_reach_the_sampler(folder):
    loaders = [
        create_dataloader(
            "video", str(folder), ["box"], 2, 0, False, clips_per_video=2, rank=rank, world_size=2, epoch=1
        )
        for rank in range(2)
    ]
    keys = [list(loader.sampler) for loader in loaders]
    assert keys[0] == [SampleKey(1, i) for i in (0, 2, 4)]
    assert keys[1] == [SampleKey(1, i) for i in (1, 3, 5)]
    assert [len(loader) for loader in loaders] == [2, 2]  # the last batch is smaller


def test_unknown_keywords_are_an_error_that_lists_what_is_allowed(folder):
    with pytest.raises(ConfigError, match="imagesize, did you mean image_size.; allowed are .*pin_memory"):
        create_dataloader("video", str(folder), ["box"], imagesize=(64, 64))
    with pytest.raises(ConfigError, match="unknown keyword sampler"):
        create_dataloader("video", str(folder), ["box"], sampler=None)
    with pytest.raises(ConfigError, match="unknown prompt type 'scribble'"):
        create_dataloader("video", str(folder), ["scribble"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"num_workers": -1}, "num_workers=-1: must be at least 0"),
        ({"clips_per_video": 0}, "clips_per_video=0: must be at least 1"),
        ({"num_of_pos_points": 1.5}, "num_of_pos_points=1.5: must be an integer"),
        ({"augment": AugmentConfig(hue=2.0)}, "augment.hue=2.0: must be between 0 and 0.5"),
        ({"shuffle": "no"}, "shuffle='no': must be true or false"),
    ],
)
def test_values_that_the_settings_do_not_allow(folder, given, words):
    with pytest.raises(ConfigError, match=f"^{words}"):
        create_dataloader("video", folder, ["point"], **given)


def test_real_clips(shared_data):
    chair = create_dataloader(
        "auto",
        str(shared_data / "pumavos_chair"),
        ["mask"],
        num_workers=0,
        image_size=(128, 128),
        video_clip_length=3,
    )
    (batch,) = chair
    assert batch["images"].shape == (1, 3, 3, 128, 128)
    assert batch["masks"].any(dim=(3, 4)).any()
    scenes = create_dataloader(
        "coco",
        str(shared_data / "endoscapes_coco"),
        None,
        num_workers=0,
        image_size=(128, 128),
        identity="category",
    )
    (batch,) = scenes
    assert batch["valid_masks"].any(dim=(0, 2)).sum() == 1  # a keyframe every 30 frames
    assert batch["num_objects"][0] == batch["masks"].shape[2] > 1
