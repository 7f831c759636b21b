"""Further validation sets: what they inherit, and what is refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sam2vt.composing import load_overrides
from sam2vt.config import Config, LossConfig, ValDatasetConfig
from sam2vt.configuration.loading import load_config, to_dict
from sam2vt.configuration.valdatasets import alone, each_alone, naming, with_set_paths
from sam2vt.core.evaluation.identity import SWAP_RATE
from sam2vt.core.evaluation.jf import METRICS
from sam2vt.core.evaluation.tables import HELD
from sam2vt.errors import ConfigError, DataError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("videos", "davis", "own"):
        (tmp_path / name).mkdir()
    return tmp_path


def loaded(sets: Any, **changes: Any) -> Config:
    return load_config({"dataset": {"data_path": "videos"}, "valdatasets": sets, **changes})


def test_a_set_has_what_valdataset_has_but_for_what_it_gives(folders: Path) -> None:
    val = {"data_path": "own", "prompt_types": ["box"], "batch_size": 3}
    config = loaded(
        {"davis": {"data_path": "davis", "batch_size": 2}, "clicks": {"prompt_types": ["point"]}},
        valdataset=val,
    )
    sets = each_alone(config)
    davis, clicks = sets["davis"].valdataset, sets["clicks"].valdataset
    assert (davis.data_path, davis.prompt_types, davis.batch_size) == ("davis", ["box"], 2)
    assert (clicks.data_path, clicks.prompt_types, clicks.batch_size) == ("own", ["point"], 3)
    assert [only.valdatasets for only in sets.values()] == [{}, {}]
    assert config.valdataset.batch_size == 3


def test_data_of_its_own_takes_the_place_of_all_inherited_data(folders: Path) -> None:
    mixture = {"datasets": [{"data_path": "own"}, {"data_path": "davis"}]}
    config = loaded({"davis": {"data_path": "davis"}}, valdataset=mixture)
    assert alone(config, "davis").valdataset.datasets == []
    config = loaded({"both": mixture}, valdataset={"data_path": "own"})
    assert alone(config, "both").valdataset.data_path == ""


def test_split_divides_what_a_set_inherits_alone(folders: Path) -> None:
    config = loaded({"davis": {"data_path": "davis"}, "clicks": {"prompt_types": ["point"]}}, split="video")
    assert [only.split for only in each_alone(config).values()] == ["none", "video"]


def test_a_set_follows_the_size_of_the_network(folders: Path) -> None:
    config = loaded({"davis": {"data_path": "davis"}}, model={"image_size": 256})
    only = alone(config, "davis")
    assert (only.valdataset.image_size, only.model.image_size) == ((256, 256), 256)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"a b": {}}, "must be a mapping of names (of letters, digits, _ and -)"),
        ({"a/b": {}}, "must be a mapping of names"),
        ({"": {}}, "must be a mapping of names"),
        ({"davis": "davis"}, "must be a mapping of names"),
        (["davis"], "valdatasets=['davis']: must be a mapping of names"),
        ({"davis": {"data_pth": "davis"}}, "did you mean valdatasets.davis.data_path?"),
        ({"davis": {"data_path": "nowhere"}}, "valdatasets.davis.data_path='nowhere': does not exist"),
        ({"davis": {"data_path": ""}}, "valdatasets.davis.data_path: is empty"),
        ({"davis": {"batch_size": "two"}}, "valdatasets.davis.batch_size='two': must be an integer"),
        ({"davis": {"batch_size": 0}}, "valdatasets.davis.batch_size=0: must be at least 1"),
        ({"davis": {"shuffle": True}}, "valdatasets.davis.shuffle=true: must be false"),
        ({"davis": {"image_size": [64, 64]}}, "valdatasets.davis.image_size: must be [512, 512]"),
        ({"davis": {"augment": {"hue": 0.5}}}, "valdatasets.davis.augment: must be none, has hue"),
        ({"davis": {"num_of_pos_points": 3}}, "valdatasets.davis.num_of_pos_points=3 with valdatasets"),
        ({"davis": {"datasets": [{"data_path": "no"}]}}, "valdatasets.davis.datasets, no: data_path='no'"),
        ({"davis": {}, "Davis": {}}, "valdatasets.Davis and valdatasets.davis differ in case alone"),
    ],
)  # fmt: skip
def test_a_broken_set_is_refused_by_its_name(folders: Path, sets: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(sets)
    assert said in str(refused.value)
    assert len(refused.value.faults) == 1


def test_a_name_is_not_one_of_a_metric() -> None:
    names = {*METRICS, *(f"{name}{HELD}" for name in METRICS), SWAP_RATE, "loss"}
    names |= {name.removesuffix("_weight") for name in LossConfig.weights()}
    for name in names - {"J&F", "J&F_hold_first"}:  # & is no letter
        with pytest.raises(ConfigError, match=f"valdatasets.{name}: val/{name} is a metric already"):
            loaded({name: {}})


def test_a_fault_of_valdataset_is_told_once(folders: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded({"davis": {"data_path": "davis"}}, valdataset={"shuffle": True})
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["valdataset.shuffle=true"]


def test_without_validation_there_is_no_use_for_a_set(folders: Path) -> None:
    with pytest.raises(ConfigError, match=r"valdatasets=.* with trainer.limit_val_batches=0"):
        loaded({"davis": {"data_path": "davis"}}, trainer={"limit_val_batches": 0})


def test_overrides_name_sets_and_their_settings(folders: Path) -> None:
    given = [
        "dataset.data_path=videos",
        "valdatasets.davis.data_path=davis",
        "valdatasets.davis.batch_size=2",
    ]
    assert load_overrides(given).valdatasets == {"davis": {"data_path": "davis", "batch_size": 2}}
    with pytest.raises(ConfigError, match=r"valdatasets\.davis\.batch_siz: unknown key.*davis\.batch_size"):
        load_overrides([*given, "valdatasets.davis.batch_siz=2"])
    config = load_overrides([given[0], "valdatasets={clicks: {prompt_types: [point]}}"])
    assert alone(config, "clicks").valdataset.prompt_types == ["point"]


def test_a_program_may_give_sections() -> None:
    config = Config(valdatasets={"davis": ValDatasetConfig(data_path="davis", batch_size=2)})
    assert to_dict(config)["valdatasets"] == {"davis": {"data_path": "davis", "batch_size": 2}}


def test_every_path_of_a_set_is_changed() -> None:
    sets = {"a": {"data_path": "x", "batch_size": 2}, "b": {"datasets": [{"data_path": "y", "name": "z"}]}}
    assert with_set_paths(sets, lambda path: f"/{path}") == {
        "a": {"data_path": "/x", "batch_size": 2},
        "b": {"datasets": [{"data_path": "/y", "name": "z"}]},
    }


def test_errors_name_the_set_but_leave_paths_alone() -> None:
    said = r"^set valdatasets.davis.data_path, not /data/valdataset/a$"
    with pytest.raises(DataError, match=said), naming("davis"):
        raise DataError("set valdataset.data_path, not /data/valdataset/a")
    with pytest.raises(DataError, match=r"^valdatasets.davis: no videos$"), naming("davis"):
        raise DataError("no videos")
    with pytest.raises(DataError, match=r"^valdataset: no videos$"), naming(""):
        raise DataError("valdataset: no videos")
