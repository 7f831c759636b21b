"""Settings are described on their fields, and some follow others."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest

from sam2vt.composing import load_overrides
from sam2vt.config import Config, DatasetConfig, ModelConfig, SweepConfig, ValDatasetConfig
from sam2vt.configuration.loading import load_config, to_dict, validate
from sam2vt.errors import ConfigError
from sam2vt.settings import (
    at_least,
    choices,
    default_of,
    one_of,
    require,
    setting,
    settings_of,
    show,
    types_of,
    walk,
    wrong_values,
)


@dataclass
class Inner:
    names: list[str] = setting(["a"], "Names.")
    anything: Any = setting(1, "Anything.", at_least(1))


@dataclass
class Outer:
    inner: Inner = None  # type: ignore[assignment]
    kind: str = setting("b", "A kind.", one_of("a", "b"))
    number: int | None = setting(None, "A number.", at_least(1, "things"))


def test_a_setting_keeps_its_default_and_description() -> None:
    assert Inner().names == ["a"]
    Inner().names.append("b")
    assert Inner().names == ["a"] == default_of(Inner, "names")
    described = settings_of(Outer)["number"]
    assert (described.meaning, described.allowed.unit) == ("A number.", "things")
    assert choices(Outer, "kind") == ("a", "b")


def test_every_value_that_is_not_allowed_is_found() -> None:
    wrong = Outer(inner=Inner(anything=0), kind="c", number=None)
    assert list(wrong_values(wrong)) == [
        ("inner.anything", 0, "must be at least 1"),
        ("kind", "c", "must be one of a, b"),
    ]
    with pytest.raises(ConfigError, match="mode='c': must be one of a, b"):
        require(Outer, "kind", "c", "mode")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000", "http://me:***@host:5000"),
        ("postgresql://me:secret@host/base", "postgresql://me:***@host/base"),
        ("postgresql://host/base?password=secret&port=1", "postgresql://host/base?password=***&port=1"),
        ("s3://AKIA:secret@bucket/videos", "s3://AKIA:***@bucket/videos"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("postgresql://me@host/base", "postgresql://me@host/base"),
        ("hf://me/mine@main/a.pt", "hf://me/mine@main/a.pt"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
    ],
)
def test_passwords_in_addresses_are_found_and_not_shown(address: str, shown: str) -> None:
    assert show([address]) == f"['{shown}']"
    for value in (address, {"data_path": address}):
        found = ["contains a password" in text for *_, text in wrong_values(Inner([value]))]  # type: ignore[list-item]
        assert found == ([] if shown == address else [True])


@pytest.mark.parametrize("root", [Config, SweepConfig])
def test_every_setting_says_what_it_means_and_allows_its_default(root: type) -> None:
    for name, owner, own_name in walk(root):
        described = settings_of(owner)[own_name]
        assert described.meaning.endswith("."), name
        assert "|" not in described.meaning, name
        assert described.path in ("", "input", "local input", "output", "network"), name
        if (default := default_of(owner, own_name)) is not None:
            assert described.allowed.fits(default), name
    assert not any(is_dataclass(types_of(owner)[name]) for _, owner, name in walk(root))


def test_one_number_of_objects_and_one_image_size_are_enough() -> None:
    config = Config(max_objects=5, model=ModelConfig(image_size=256))
    assert (config.model.max_objects, type(config.model.max_objects)) == (5, int)
    assert config.dataset.image_size == config.valdataset.image_size == (256, 256)
    assert load_config({**to_dict(config), "dataset": {"data_path": "."}}).model.max_objects == 5
    assert load_config({"max_objects": 5, "dataset": {"data_path": "."}}).model.max_objects == 5


@pytest.mark.parametrize(
    "sections",
    [
        {"dataset": DatasetConfig(data_path=".", image_size=(256, 256))},
        {"dataset": DatasetConfig(data_path="."), "valdataset": ValDatasetConfig(image_size=(256, 256))},
        {"dataset": DatasetConfig(data_path="."), "model": ModelConfig(image_size=256)},
    ],
)
def test_any_one_image_size_is_enough(sections: dict[str, Any]) -> None:
    config = validate(Config(**sections))
    assert config.model.image_size == 256
    assert config.dataset.image_size == config.valdataset.image_size == (256, 256)
    given = {"dataset": {"data_path": ".", "image_size": [256, 256]}}
    assert load_config(given).model.image_size == 256


def test_two_image_sizes_are_an_error() -> None:
    data = DatasetConfig(data_path=".", image_size=(256, 256))
    for other in (
        {"model": ModelConfig(image_size=512)},
        {"valdataset": ValDatasetConfig(image_size=(64, 64))},
    ):
        with pytest.raises(ConfigError, match="must be equal"):
            validate(Config(dataset=data, **other))


@pytest.mark.parametrize("start", ["made", "loaded", "composed"])
def test_replacing_a_value_replaces_what_follows_it(start: str) -> None:
    data = {"data_path": "."}
    config = {
        "made": lambda: Config(max_objects=5, dataset=DatasetConfig(**data)),
        "loaded": lambda: load_config({"max_objects": 5, "model": {"max_objects": 5}, "dataset": data}),
        "composed": lambda: load_overrides(["max_objects=5", "dataset.data_path=."]),
    }[start]()
    for number in (4, 2, 5):
        config = validate(replace(config, max_objects=number))
        assert config.model.max_objects == number
    for side in (256, 128):
        config = validate(replace(config, model=ModelConfig(image_size=side)))
        assert config.dataset.image_size == config.valdataset.image_size == (side, side)
    config = validate(
        replace(config, dataset=DatasetConfig(image_size=(64, 64), **data), model=ModelConfig())
    )
    assert config.model.image_size == 64


def test_what_is_given_otherwise_is_an_error_even_at_its_default() -> None:
    given = Config(
        max_objects=5,
        model=ModelConfig(image_size=256, max_objects=3),
        dataset=DatasetConfig(data_path=".", image_size=(512, 512)),
    )
    with pytest.raises(ConfigError) as caught:
        load_config(to_dict(given))
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "model.max_objects=3 with max_objects=5",
        "dataset.image_size=[512, 512] with model.image_size=256",
    ]
    changed = ModelConfig()
    changed.max_objects = 4
    assert Config(max_objects=5, model=changed).model.max_objects == 4


def test_a_section_of_two_configurations_follows_each() -> None:
    model = ModelConfig()
    five, four = Config(max_objects=5, model=model), Config(max_objects=4, model=model)
    assert (five.model.max_objects, four.model.max_objects, model.max_objects) == (5, 4, 3)
    assert Config(model=model).model is model


def test_sections_stay_plain_dataclasses() -> None:
    assert list(inspect.signature(ModelConfig).parameters) == [f.name for f in fields(ModelConfig)]
    copied = pickle.loads(pickle.dumps(ModelConfig(num_maskmem=3)))
    assert copied == replace(copied) == ModelConfig(num_maskmem=3)
    with pytest.raises(TypeError, match="max_object"):
        ModelConfig(max_object=3)  # type: ignore[call-arg]
