"""Overrides: values of paths as they are typed, and every fault in one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ray_jobs import train as ray_train
from ray_jobs import tune as ray_tune
from sam2vt import cli
from sam2vt.composing import _paths, compose_config, literal, load_overrides, usable_overrides
from sam2vt.configuration.loading import to_dict
from sam2vt.errors import ConfigError
from sam2vt.settings import value_at

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


@pytest.mark.parametrize(
    "text",
    [
        "# @package _global_\nhydra: {callbacks: {a: {_target_: os.mkdir, path: evil}}}\n",
        "# @package hydra.callbacks\na: {_target_: os.mkdir, path: evil}\n",
        "# @package _global_\ndefaults: [given@hydra.callbacks]\n",
        "# @package _global_\ndefaults:\n- override /hydra/launcher: evil\n",
    ],
)
def test_an_experiment_s_file_cannot_have_hydra_call_functions(tmp_path: Path, text: str) -> None:
    file = tmp_path / "best.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"best\.yaml: has settings of Hydra's, which can run code"):
        load_overrides([f"experiment={file}", f"dataset.data_path={tmp_path}"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: [", "cannot be read as YAML: line 2: "),
        (b"- a", "holds a list; needed is a mapping of settings"),
        (b"name: \xff", "is not UTF-8 text"),
        (b"loss:\n  smooth: 1\n  smooth: 2", "cannot be read as YAML: line 3: smooth is given twice"),
        (b"\x00", "cannot be read as YAML: "),
        (b"a: !!python/object/apply:os.mkdir [evil]", "could not determine a constructor"),
        (b"[" * 100_000, "nested more than 100 levels deep"),
        (
            b"a0: &a0 [x]\n"
            + b"".join(
                b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)
            ),
            "more than 20000 values",
        ),
    ],
)
def test_a_damaged_run_or_experiment_is_one_fault(tmp_path: Path, content: bytes, said: str) -> None:
    """And not that its data was not given; a file with aliases of aliases would be read without end."""
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_overrides([f"resume={tmp_path}"])
    (fault,) = caught.value.faults
    assert fault.startswith(f"experiment={file}: ")
    assert said in fault


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
    "optimizer: must be name=value",
    "optimizer.betas='[1': must be a list of 2 numbers",
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
        ("~", "~: must be name=value"),
        ("~trainer.max_epoch", "trainer.max_epoch: unknown key, did you mean trainer.max_epochs?"),
        ("~trainer.max_epochs=3", "~trainer.max_epochs=3: write ~trainer.max_epochs, without a value"),
        ("model@foo=tiny", "model@foo=tiny: cannot be chosen for foo; leave out @foo"),
        ("+optimizer@_global_=adam", "+optimizer@_global_=adam: cannot be chosen for _global_"),
        ("model=tiny,small", "model=tiny,small: one run has one choice; allowed are base_plus"),
        ("model=[tiny,smal]", "model=[tiny,smal]: unknown choice, did you mean model=small?"),
        ("model=a@b", "model=a@b: unknown choice; allowed are base_plus"),
        ("network=nano", "network: unknown key"),
        ("optimizer..lr=1", "optimizer..lr: unknown key, did you mean optimizer.lr?"),
        (
            "dataset.datasets.0.data_path=x",
            "dataset.datasets.0.data_path: unknown key, did you mean dataset.",
        ),
        ("trainer.devices.0=1", "trainer.devices.0: unknown key, did you mean trainer.devices?"),
    ],
)
def test_what_an_override_may_have_wrong(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config([override])
    assert caught.value.faults[0].startswith(said)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.lr=1e-4,1e-5"], "optimizer.lr='1e-4,1e-5': must be a number"),
        (["seed=range(1,3)"], "seed='range(1,3)': must be an integer"),
        (["trainer.max_epochs=(a"], "trainer.max_epochs='(a': must be an integer"),
        (["model.trainable_modules=a,b"], "model.trainable_modules='a,b': must be a list of strings"),
        (
            ["dataset.prompt_types=[point"],
            "dataset.prompt_types='[point': must be a list of strings; a text in",
        ),
        (["optimizer={lrr: 1}"], "optimizer.lrr: unknown key, did you mean optimizer.lr?"),
        (["name=${foo"], "name=${foo: ${ begins a reference such as ${name}; as a part of a text write \\${"),
        (["name=${}"], "name=${}: ${ begins a reference such as ${name}"),
        (["name=${nowhere}"], "name: cannot be resolved: Interpolation key 'nowhere' not found"),
        (["seed=${nowhere}"], "seed: cannot be resolved: Interpolation key 'nowhere' not found"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: is Hydra's; only `sam2vt train` takes it"),
        (["hydra.foo=x"], "hydra.foo=x: is Hydra's; only `sam2vt train` takes it"),
        (["~dataset"], "valdataset.image_size: cannot be resolved"),
        (["valdatasets=[a]"], "valdatasets=[a]: must be a mapping, such as {name: value}"),
        (["model.lora=[4]"], "model.lora=[4]: must be a mapping, such as {name: value}"),
        (["dataset.datasets={a: 1}"], "dataset.datasets={a: 1}: must be a list, such as [a, b]"),
    ],
)
def test_what_a_value_may_have_wrong(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_overrides(["dataset.data_path=.", *overrides])
    (fault,) = caught.value.faults
    assert fault.startswith(said)


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("wandb_project=a=b", "wandb_project", "a=b"),
        ("ray.name='my run, 2'", "ray.name", "my run, 2"),
        ("ray.name=my run, 2", "ray.name", "my run, 2"),
        ("name=(a", "name", "(a"),
        ("name=a(b)", "name", "a(b)"),
        ("name=7", "name", "7"),
        ("+optimizer.lr=0.5", "optimizer.lr", 0.5),
        ("++optimizer.lr=0.5", "optimizer.lr", 0.5),
        ("optimizer={lr: 0.5}", "optimizer.lr", 0.5),
        ("ray.worker_resources.slot=1", "ray.worker_resources", {"slot": 1}),
        ("ray.decode_labels.pool=data", "ray.decode_labels", {"pool": "data"}),
        ("dataset.colours={grün: [0,255,0]}", "dataset.colours", {"grün": [0, 255, 0]}),
        ("model=[tiny,nano]", "model.config_path", "network/sam2.1_nano.yaml"),
        ("~trainer.max_epochs", "trainer.max_epochs", 10),
    ],
)
def test_values_are_taken_as_they_are_typed(override: str, name: str, value: Any) -> None:
    given = ["dataset.data_path=.", "use_wandb=true" if "wandb" in name else "seed=0", override]
    try:
        assert value_at(load_overrides(given), name) == value
    except ConfigError as error:
        (fault,) = error.faults  # W&B is perhaps not there
        assert "is not installed" in fault


@pytest.mark.parametrize(
    ("typed", "folder"),
    [
        ("a=b", "a=b"),
        ("a b", "a b"),
        ("Bühne_ä", "Bühne_ä"),
        ("it's", "it's"),
        ("'a,b'", "a,b"),
        ("'[1]'", "[1]"),
        ('"it\'s, [2]"', "it's, [2]"),
        ("a~b", "a~b"),
    ],
)
def test_paths_in_a_list_of_sets(
    typed: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    (tmp_path / "plain").mkdir()
    given = [f"dataset.datasets=[{{data_path: {typed}, weight: 3e-1}}, {{data_path: plain, weight: 1}}]"]
    assert [each["data_path"] for each in load_overrides(given).dataset.datasets] == [folder, "plain"]


@pytest.mark.parametrize("path", ["a,b", "[1", "a: b, c"])
def test_paths_in_a_list_that_need_quotes(path: str) -> None:
    with pytest.raises(ConfigError, match="a text in it that has , : .* is put in quotes"):
        load_overrides([f"dataset.datasets=[{{data_path: {path}}}]"])


@pytest.mark.parametrize("name", ["dataset.dta_path", "data_path", "datset.data_path"])
def test_misspelt_data_is_not_said_to_be_missing_as_well(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_overrides([f"{name}=x"])
    (fault,) = caught.value.faults
    assert fault.startswith(f"{name}: unknown key, did you mean dataset.data_path?")


def test_free_keys_options_and_deletions_are_passed_on() -> None:
    options = ["--cfg", "job", "-m", "hydra.verbose=true"]
    given = [*options, "~sweep", "++ray.worker_resources.slot=1", "model=tiny,small", "++name=a,b"]
    with usable_overrides(given) as (known, faults):
        assert (known, faults) == (given, [])


@pytest.mark.parametrize("job", [ray_train, ray_tune])
def test_a_job_s_help_is_short_and_shows_how_to_start_it(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--help", "-h"):
        job.main([option])
        shown = capsys.readouterr().out
        assert len(shown.splitlines()) < 20
        assert f"python {job.__name__.replace('.', '/')}.py" in shown
        assert "docs/settings.md" in shown


def test_options_are_refused_where_nothing_follows_them(tmp_path: Path) -> None:
    arguments = ["--cfg", "job", f"dataset.data_path={tmp_path}"]
    with pytest.raises(ConfigError, match="--cfg: is Hydra's; only `sam2vt train` takes it"):
        load_overrides(arguments)
    assert load_overrides(arguments, takes_options=True).dataset.data_path == str(tmp_path)


def test_resume_of_a_run_s_folder_takes_its_configuration(tmp_path: Path) -> None:
    """Its settings, there; other overrides count on top, and a named folder or experiment is another run."""
    from sam2vt.train import write_config

    (tmp_path / "videos").mkdir()
    run = tmp_path / "my run"
    first = load_overrides(
        [f"dataset.data_path={tmp_path / 'videos'}", "optimizer.lr=0.25", f"output_dir={run}"]
    )
    write_config(first)
    again = load_overrides([f"resume={run}", "trainer.max_epochs=77"])
    assert again.resume == "auto"
    assert again.trainer.max_epochs == 77
    assert replace(again, resume=first.resume, trainer=first.trainer) == first
    data = f"dataset.data_path={tmp_path / 'videos'}"
    other = load_overrides([f"resume={run}", data, f"output_dir={tmp_path / 'other'}"])
    assert other.optimizer.lr != 0.25


def test_another_run_of_a_run_s_configuration_has_its_own_checkpoints(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for save_dir, expected in ((f"{run}/checkpoints", f"{tmp_path}/other/checkpoints"), ("/kept", "/kept")):
        given = ["dataset.data_path=s3://bucket/videos", f"output_dir={run}", f"save_dir={save_dir}"]
        (run / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(load_overrides(given))))
        again = load_overrides([f"experiment={run / 'config.yaml'}", f"output_dir={tmp_path / 'other'}"])
        assert again.save_dir == expected
