"""Several datasets as one: shares, names, settings of each, and both engines drawing the same clips."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vt.config import Config, DatasetConfig, ValDatasetConfig
from sam2vt.configuration.loading import load_config, to_dict
from sam2vt.configuration.mixture import Member, members, with_paths
from sam2vt.configuration.resume import differences
from sam2vt.core.data.clips.drawing import draw_clip
from sam2vt.core.data.clips.sampling import sample_at
from sam2vt.core.data.dataset import dataset_from_config
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.opening import open_train_val
from sam2vt.core.data.records.mixture import Mixture, num_videos
from sam2vt.core.data.records.table import RecordTable, write_records
from sam2vt.core.data.videos import video_frames
from sam2vt.core.data.writing.pack import pack
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.types import LabelImage, SampleKey, VideoRecord
from sam2vt.errors import ConfigError, DataError


def videos(count: int, prefix: str = "v") -> list[VideoRecord]:
    return [
        VideoRecord(f"{prefix}{i}", 1, 4, 4, {0: LabelImage("m.png")}, frame_paths=("f.jpg",))
        for i in range(count)
    ]


def member(name: str, weight: float | None = None, repeat: float = 1.0) -> Member:
    return Member(name, DatasetConfig(), weight, repeat)


def visits(mixture: Mixture) -> Counter[str]:
    return Counter(record.video_id for record in mixture)


def test_weights_are_shares_of_the_clips_and_no_video_is_left_out():
    mixture = Mixture([member("a", 3), member("b", 1)], [videos(2), videos(30)])
    found = visits(mixture)
    assert len(found) == num_videos(mixture) == 32
    assert sum(number for name, number in found.items() if name.startswith("a/")) == 90
    assert [found[f"b/v{i}"] for i in range(30)] == [1] * 30
    assert str(mixture) == "a: 2 videos, 75% of the clips, b: 30 videos, 25% of the clips"


def test_a_repeat_that_is_no_whole_number_is_spread_over_the_set():
    found = visits(Mixture([member("a", repeat=2.5), member("b")], [videos(4), videos(3)]))
    assert [found[f"a/v{i}"] for i in range(4)] == [3, 2, 3, 2]
    assert [found[f"b/v{i}"] for i in range(3)] == [1, 1, 1]


def test_weights_that_would_never_end_an_epoch():
    with pytest.raises(ConfigError, match=r"an epoch .* \(a: 1 videos, weight 1000000000.0, b: 10 videos"):
        Mixture([member("a", 1e9), member("b", 1e-3)], [videos(1), videos(10)])


def test_a_mixture_of_tables_travels_as_its_paths(tmp_path):
    write_records(videos(2000), tmp_path / "a.parquet")
    mixture = Mixture([member("a", 1), member("b", 2)], [RecordTable(tmp_path / "a.parquet"), videos(1)])
    packed = pickle.dumps(mixture)
    assert len(packed) < 4000
    assert list(pickle.loads(packed)[1998:2003]) == list(mixture[1998:2003])
    assert [record.video_id for record in mixture[1999:2001]] == ["a/v1999", "b/v0"]


def test_validation_sees_each_video_once():
    mixture = Mixture([member("a", 3), member("b", 1)], [videos(2), videos(3)])
    assert list(visits(mixture.once()).values()) == [1] * 5


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three folders of videos with the same names, one of them as a pack, too."""
    root = tmp_path_factory.mktemp("sets")
    for seed, (name, number) in enumerate({"one": 2, "two": 3, "three": 2}.items()):
        write_sample_data(root / name, num_videos=number, num_frames=8, size=(48, 64), seed=seed)
    pack(load_records("auto", root / "three"), str(root / "pack"), workers=1)
    return root


def configured(data: Path, *entries: dict, split: str = "none") -> Config:
    config = Config(split=split)
    config.dataset.datasets = [
        {**entry, "data_path": str(data / entry["data_path"])} if "data_path" in entry else entry
        for entry in entries
    ]
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size, dataset.video_clip_length = (64, 64), 3
    config.model.image_size = 64
    return config


def test_each_set_has_its_own_settings(data):
    config = configured(
        data,
        {"data_path": "one", "weight": 2, "prompt_types": ["mask"], "frame_stride": 2},
        {"data_path": "two", "weight": 1, "augment": {"brightness": 0.5}},
        {"data_path": "pack", "weight": 1, "name": "packed"},
    )
    assert load_config(to_dict(config)) == config
    train, val = open_train_val(config)
    assert num_videos(train) == len(val) == 7
    dataset = dataset_from_config(config.dataset, records=train, seed=3)
    for place in range(len(train)):
        clip, record = dataset[place], train[place]
        name = clip["video_id"].split("/")[0]
        assert clip["video_id"] == record.video_id
        assert name == {0: "one", 1: "two", 2: "packed"}[record.member]
        first, second = clip["frame_indices"][:2]
        assert second - first == (2 if name == "one" else 1)
        if name == "one":
            assert {prompt["type"] for prompt in clip["prompts"]} == {"mask"}
        assert sum(1 for _ in video_frames(record, 64)) == 8
        assert any(mask.any() for mask in load_masks(record, 0).values())
    specs = dataset.spec.sets
    assert [spec.augment.brightness for spec in specs] == [0, 0.5, 0]


def test_clips_of_a_pack_in_a_mixture_equal_those_of_its_source(data):
    drawn = []
    for name in ("three", "pack"):
        config = configured(data, {"data_path": "one"}, {"data_path": name, "name": "same"})
        records, _ = open_train_val(config)
        drawn.append(dataset_from_config(config.dataset, records=records, seed=1))
    for place in range(len(drawn[0])):
        one, two = (dataset[place] for dataset in drawn)
        assert torch.equal(one["images"], two["images"])
        assert torch.equal(one["masks"], two["masks"])
        assert one["video_id"] == two["video_id"]


@pytest.mark.parametrize("split", ["video", "time"])
def test_each_set_is_divided(data, split):
    config = configured(data, {"data_path": "one", "repeat": 3}, {"data_path": "two"}, split=split)
    train, val = open_train_val(config)
    sides = [Counter((record.video_id, record.frame_range) for record in side) for side in (train, val)]
    assert not sides[0].keys() & sides[1].keys()
    assert all(number == 1 for number in sides[1].values())
    for side in sides:
        assert {name.split("/")[0] for name, _ in side} == {"one", "two"}
    assert {number for (name, _), number in sides[0].items() if name.startswith("one/")} == {3}


def test_ray_decodes_what_torch_draws(data, tmp_path):
    from sam2vt.distributed.cluster.storage import run_storage
    from sam2vt.distributed.source import find_clips

    config = configured(data, {"data_path": "one", "weight": 3}, {"data_path": "pack", "weight": 1})
    config.dataset.clips_per_video, config.ray.num_workers = 2, 1
    config.output_dir = str(tmp_path / "run")
    records, _ = open_train_val(config)
    dataset = dataset_from_config(config.dataset, records=records, seed=config.seed, max_objects=3)
    job = pickle.loads(pickle.dumps(find_clips(config, run_storage(config)).job))
    assert len(job.records) == len(dataset) == 8
    for position in range(16):
        key = sample_at(position, **job.sampling)
        sent, drawn = draw_clip(job.records, key, job.spec), dataset[key]
        assert sent["video_id"] == drawn["video_id"]
        assert np.array_equal(sent["images"], drawn["images"])
        assert np.array_equal(sent["masks"], drawn["masks"])


def test_mosaic_takes_clips_of_all_sets(data):
    everywhere = {"augment": {"mosaic_probability": 1.0}}
    config = configured(data, {"data_path": "one", **everywhere}, {"data_path": "two", **everywhere})
    records, _ = open_train_val(config)
    dataset = dataset_from_config(config.dataset, records=records)
    for index in range(6):
        one, two = (dataset[SampleKey(0, index)] for _ in range(2))
        assert torch.equal(one["images"], two["images"])


BAD_ENTRIES = {
    "no list": ("one", "must be a list of mappings"),
    "no mapping": (["one"], "must be a list of mappings"),
    "no path": ([{"weight": 1}], "datasets[0].data_path: has to be given"),
    "no such path": ([{"data_path": "/nowhere"}], "nowhere: data_path='/nowhere': does not exist"),
    "unknown key": (
        [{"data_path": "{one}", "wieght": 2}],
        "datasets[0].wieght: unknown key, did you mean dataset.datasets[0].weight?",
    ),
    "shared key": ([{"data_path": "{one}", "image_size": [64, 64]}], "datasets[0].image_size: unknown key"),
    "wrong type": (
        [{"data_path": "{one}", "frame_stride": "two"}],
        "datasets[0].frame_stride='two': must be",
    ),
    "wrong value": ([{"data_path": "{one}", "frame_stride": 0}], "one: frame_stride=0: must be at least 1"),
    "wrong colour": ([{"data_path": "{one}", "augment": {"hue": 2.0}}], "one: augment.hue=2.0: must be"),
    "weight 0": ([{"data_path": "{one}", "weight": 0}], "datasets[0].weight=0: must be a number above 0"),
    "weight nan": ([{"data_path": "{one}", "weight": float("nan")}], "weight=nan: must be a number above 0"),
    "repeat": ([{"data_path": "{one}", "repeat": 0.5}], "repeat=0.5: must be a number of at least 1"),
    "one weight": (
        [{"data_path": "{one}", "weight": 1}, {"data_path": "{two}"}],
        "one has a weight, two has none; give all sets one, or none",
    ),
    "both": (
        [{"data_path": "{one}", "weight": 1, "repeat": 2}],
        "weights say already how often a set is repeated",
    ),
    "one name": (
        [{"data_path": "{one}"}, {"data_path": "{one}"}],
        "two sets are called one; give each a name",
    ),
    "name": ([{"data_path": "{one}", "name": 3}], "datasets[0].name=3: must be a string"),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_a_bad_entry_is_one_fault(data, case):
    entries, says = BAD_ENTRIES[case]
    config = Config()
    config.dataset.datasets = (
        [
            {
                k: str(data / v[1:-1]) if str(v).startswith("{") and k == "data_path" else v
                for k, v in each.items()
            }
            if isinstance(each, dict)
            else each
            for each in entries
        ]
        if isinstance(entries, list)
        else entries
    )
    with pytest.raises(ConfigError) as error:
        load_config(to_dict(config))
    lines = str(error.value).splitlines()
    assert len(lines) == 2, lines
    assert says in lines[1]
    assert "dataset.datasets" in lines[1]


def test_what_does_not_go_together(data):
    config = configured(data, {"data_path": "one"})
    config.dataset.data_path = str(data / "two")
    config.valdataset.datasets = [{"data_path": str(data / "two"), "weight": 1}]
    with pytest.raises(ConfigError) as error:
        load_config(to_dict(config))
    assert "dataset.data_path" in str(error.value)
    assert "give one of them" in str(error.value)
    assert "valdataset.datasets: validation sees each video once; leave out weight" in str(error.value)


def test_a_fault_in_a_set_names_its_path(data, tmp_path):
    (tmp_path / "empty").mkdir()
    config = configured(data, {"data_path": "one"})
    config.dataset.datasets.append({"data_path": str(tmp_path / "empty")})
    with pytest.raises(DataError, match="empty"):
        open_train_val(config)


def test_what_an_entry_leaves_out_is_the_wholes():
    settings = ValDatasetConfig(frame_stride=3, datasets=[{"data_path": "a/b.json"}, {"data_path": "c/"}])
    assert [(each.name, each.settings.frame_stride) for each in members(settings)] == [("b", 3), ("c", 3)]
    given = DatasetConfig(image_root="b", datasets=[{"data_path": "a", "weight": 2}])
    moved = with_paths(given, "/{}".format)
    assert (moved.image_root, moved.datasets) == ("/b", [{"data_path": "/a", "weight": 2}])


def test_a_resumed_run_keeps_its_weights_but_not_its_places(data):
    was = to_dict(configured(data, {"data_path": "one", "weight": 1}, {"data_path": "two", "weight": 1}))
    moved = to_dict(
        configured(data / "x", {"data_path": "one", "weight": 1}, {"data_path": "two", "weight": 1})
    )
    other = to_dict(configured(data, {"data_path": "one", "weight": 2}, {"data_path": "two", "weight": 1}))
    assert differences(was, moved) == []
    (line,) = differences(was, other)
    assert line.startswith("dataset.datasets was")
