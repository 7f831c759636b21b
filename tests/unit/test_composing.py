"""Overrides: values of paths as they are typed, and every fault in one message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ray_jobs import train as ray_train
from ray_jobs import tune as ray_tune
from sam2vt import cli
from sam2vt.composing import _paths, compose_config, literal, load_overrides, usable_overrides
from sam2vt.errors import ConfigError

HOSTILE = [
    "a=b",
    "a b",
    " a ",
    "[1,2]",
    "{a: b}",
    "a,b",
    "it's",
    'say "hi"',
    "'a' and 'b'",
    "a$b",
    "$HOME",
    "Bühne_ä",
    "a#b",
    "c:d",
    r"back\slash",
    "ends\\",
    r"it\'s",
    "~user",
    "a!b(c)",
    "true",
    "1e3",
    "hf://a/b?c=d",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_paths_are_taken_as_they_are_typed(value: str) -> None:
    names = [name for name in _paths() if not name.startswith("hydra.")]
    composed = compose_config([f"{name}={value}" for name in names])
    assert {name: OmegaConf.select(composed, name) for name in names} == dict.fromkeys(names, value)


def test_every_setting_of_a_path_is_one() -> None:
    assert _paths() >= {
        "model.checkpoint_path",
        "model.config_path",
        "dataset.data_path",
        "dataset.image_root",
        "dataset.feature_cache",
        "valdataset.data_path",
        "valdataset.image_root",
        "ray.storage_path",
        "resume",
        "output_dir",
        "save_dir",
    }


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("null", None),
        ("'a b'", "a b"),
        ('"it\'s"', "it's"),
        (r"'it\'s'", "it's"),
        ("${name}/data", "default/data"),
        ("${name}/a=b", "default/a=b"),
        ("'${name} data'", "default data"),
        ("${oc.env:HOSTILE_HOME}/x", "/a b/x"),
    ],
)
def test_null_quotes_and_references_mean_what_they_mean_to_hydra(
    value: str, path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE_HOME", "/a b")
    assert compose_config([f"dataset.image_root={value}"]).dataset.image_root == path
    assert compose_config([f"+dataset.image_root={value}"]).dataset.image_root == path


@pytest.mark.parametrize("text", [*HOSTILE, "", "\\'", "\\\\'a"])
def test_the_text_of_a_quoted_value(text: str) -> None:
    from hydra.core.override_parser.types import Quote, QuotedString

    for quote in Quote:
        assert literal(QuotedString(text, quote).with_quotes()) == text


def test_an_experiment_s_file_may_have_any_name(tmp_path: Path) -> None:
    file = tmp_path / "my best, [1]=ä.yaml"
    file.write_text("# @package _global_\nname: given\noptimizer:\n  lr: 0.5\n")
    composed = compose_config([f"experiment={file}"])
    assert (composed.name, composed.optimizer.lr) == ("given", 0.5)
    with pytest.raises(ConfigError, match=r"experiment=.*no\.yaml: there is no such file"):
        compose_config([f"experiment={tmp_path}/no.yaml"])


def test_unknown_keys_of_an_experiment_s_file_are_explained(tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    file.write_text("# @package _global_\noptimizer:\n  lrr: 0.5\n")
    with pytest.raises(ConfigError, match=r"optimizer.lrr: unknown key, did you mean optimizer.lr\?"):
        load_overrides([f"experiment={file}", f"dataset.data_path={tmp_path}"])


WRONG = ["optimizer.lrr=0.1", "lr=0.1", "model=tinny", "optimizer.betas=[1", "optimizer", "optimizer.lr=-1"]
FAULTS = [
    "optimizer.lrr: unknown key, did you mean optimizer.lr?",
    "lr: unknown key, did you mean optimizer.lr?",
    "model=tinny: unknown choice, did you mean model=tiny?",
    "optimizer.betas=[1: cannot be parsed",
    "optimizer: must be name=value",
    "optimizer.lr=-1: must be above 0",
]
STARTS: dict[str, Callable[[list[str]], Any]] = {
    "train": lambda given: cli.main(["train", *given]),
    "preview": lambda given: cli.main(["preview", ".", *given]),
    "estimate": lambda given: cli.main(["estimate", *given]),
    "cache-features": lambda given: cli.main(["cache-features", *given]),
    "ray_jobs/train.py": ray_train.main,
    "ray_jobs/tune.py": lambda given: ray_tune.main([*given, "sweep=joint"]),
}


@pytest.mark.parametrize("start", STARTS)
def test_every_fault_comes_in_one_message(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        STARTS[start]([*WRONG, "dataset.data_path=."])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the configuration has {len(FAULTS)} faults:\n")
    assert [line[4:].startswith(fault) for line, fault in zip(said.splitlines()[1:], FAULTS)] == [True] * 6
    assert "To append" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset/augment=strongest", "dataset/augment=strongest: unknown choice, did you mean"),
        ("experiment=demoo", "experiment=demoo: unknown choice, did you mean experiment=demo?"),
        ("sweep.num_trials=4", "sweep.num_trials=4: no sweep was named; give sweep=joint"),
        ("optimizer.lr.x=1", "optimizer.lr.x: unknown key"),
        ("+optimizer.lrr=1", "optimizer.lrr: unknown key, did you mean optimizer.lr?"),
        ("experiment=null", "experiment=null: unknown choice; allowed are card_16gb"),
        ("=3", "=3: must be name=value"),
    ],
)
def test_what_an_override_may_have_wrong(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config([override])
    assert caught.value.faults[0].startswith(said)


def test_free_keys_options_and_deletions_are_passed_on() -> None:
    options = ["--cfg", "job", "-m", "hydra.verbose=true"]
    given = [*options, "~sweep", "+ray.worker_resources.slot=1", "model=a,b"]
    with usable_overrides(given) as (known, faults):
        assert (known, faults) == (given, [])
    composed = compose_config(["+ray.worker_resources.slot=1"])
    assert composed.ray.worker_resources == {"slot": 1}


def test_options_are_refused_where_nothing_follows_them(tmp_path: Path) -> None:
    arguments = ["--cfg", "job", f"dataset.data_path={tmp_path}"]
    with pytest.raises(ConfigError, match="--cfg: is no override; only `sam2vt train` takes options"):
        load_overrides(arguments)
    assert load_overrides(arguments, takes_options=True).dataset.data_path == str(tmp_path)
