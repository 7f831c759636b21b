"""What the version before the modules moved has written is read as that version read it.

`write_fixtures.py` made the files and `golden.json`, with the old version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from omegaconf import OmegaConf

from sam2vt.config import Config, DatasetConfig
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.dataset import dataset_from_config
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.packed import verify
from sam2vt.core.data.masks.loading import known_objects, load_masks, load_void
from sam2vt.core.data.opening import open_records
from sam2vt.core.data.records.fingerprint import fingerprint
from sam2vt.core.data.writing.convert import convert
from sam2vt.core.data.writing.pack import PackOptions, pack
from sam2vt.core.prediction.weights import load_model
from sam2vt.core.training.callbacks import default_callbacks
from sam2vt.core.training.callbacks.results_csv import read_rows
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.feature_cache import cache_of
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.core.types import SampleKey, VideoRecord
from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, sigterm_as_before
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.sweep.collect import objectives_of
from sam2vt.distributed.sweep.launch import check_earlier, restored, trial_job, what_is_asked
from sam2vt.distributed.sweep.search import DefaultFirst, optuna_search
from sam2vt.distributed.sweep.trust import TRUST
from sam2vt.distributed.worker.training import StreamDataModule
from sam2vt.errors import ConfigError
from sam2vt.train import train
from tests.compat.reading import (
    FIXTURES,
    HERE,
    MOMENT,
    RAY_FOLDER,
    described,
    described_clip,
    described_masks,
    digest,
    settle,
    statistics,
)
from tests.compat.trials import SWEEPS, Formula, made_with, suggestions, sweep_of, trials_of

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not os.path.isdir(HERE), reason=f"the fixtures' paths lie below {HERE}"),
]

REPO = Path(__file__).resolve().parents[2]
GOLDEN: dict[str, Any] = json.loads((FIXTURES / "golden.json").read_text())
TABLES = sorted(GOLDEN["tables"].keys() - {"odd"})
CHECKPOINTS = sorted(name for name in GOLDEN["run"] if name.endswith(".ckpt"))
MORE_STEPS = 9
STEPS_PER_EPOCH = 3
FILES = "37028137813864787469f492b1888aed2c3e92316dfc2d8b8f183e05c5d0d22b"


def close(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures, in which the test runs."""
    folder = tmp_path / "copy"
    shutil.copytree(FIXTURES, folder)
    settle(folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_files_are_those_that_were_written() -> None:
    """A search and replace over `tests` would make them agree with whatever the code has become."""
    found = hashlib.sha256()
    for path in sorted(path for path in FIXTURES.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(FIXTURES).as_posix()} {content}\n".encode())
    assert found.hexdigest() == FILES


# Records, masks and clips


# The fields that were keys of a record's `extra`, in the order in which they were set.
OF_EXTRA = {
    "is_still": "still",
    "parents": "parents",
    "intensity_range": "intensity_range",
    "classes": "classes",
    "colours": "colours",
    "object_names": "object_names",
    "object_list": "meta",
    "member": "set",
}


def as_before(record: VideoRecord) -> Any:
    """A record as `described` told it when these fields were one dict."""
    fields = asdict(record)
    values = {key: fields.pop(name) for name, key in OF_EXTRA.items()}
    values["intensity_range"] = values["intensity_range"] and list(values["intensity_range"])
    packed = fields.pop("packed")
    for annotation in fields["annotations"].values():  # of segmentations, which had no void
        assert not annotation.pop("void", None)
    given = {
        key: value
        for key, value in values.items()
        if value is not None and value is not False and value != {}
    }
    return described({**fields, "extra": given, "packed": packed})


def assert_records_are(expected: list[Any], path: str) -> None:
    records = open_records(DatasetConfig(data_path=path))
    assert [as_before(record) for record in records] == [record for record, _ in expected]
    masks = [described_masks(record, load_masks, load_void, known_objects) for record in records]
    assert masks == [each for _, each in expected]


@pytest.mark.parametrize("name", TABLES)
def test_record_tables(here: Path, name: str) -> None:
    assert_records_are(GOLDEN["tables"][name], f"{HERE}/tables/{name}.parquet")


def test_the_table_of_a_mixture(here: Path) -> None:
    assert_records_are(GOLDEN["packs"]["records"]["mixture"], f"{HERE}/tables/mixture.parquet")


def test_odd_records(here: Path) -> None:
    records = open_records(DatasetConfig(data_path="tables/odd.parquet"))
    expected = json.loads(json.dumps(GOLDEN["tables"]["odd"]))
    extra = dict(expected[-1]["dict"])["extra"]["dict"]
    extra[:] = [pair for pair in extra if pair[0] not in ("$tuple", "box")]  # no keys of ours: passed over
    assert [as_before(record) for record in records] == expected


@pytest.mark.parametrize("name", ["pack", "pack_kinds"])
def test_packs(here: Path, name: str) -> None:
    _, faults = verify(name)
    assert not faults
    assert_records_are(GOLDEN["packs"]["records"][name], f"{HERE}/{name}")


def test_every_key_of_extra_is_among_the_tables() -> None:
    """Else a table is missing here; a key that is new since then is no matter."""
    text = json.dumps([GOLDEN["tables"], GOLDEN["packs"]])
    keys = ("object_names", "intensity_range", "meta", "classes", "colours", "parents", "still", "set")
    assert [key for key in keys if f'["{key}", ' not in text] == []


@pytest.mark.parametrize("name", sorted(GOLDEN["packs"]["clips"]))
def test_clips(here: Path, name: str) -> None:
    """Where a processor decodes or scales otherwise, images need only look the same."""
    path = f"{HERE}/{name}" if name.startswith("pack") else f"{HERE}/tables/{name}.parquet"
    settings = DatasetConfig(data_path=path, image_size=(64, 64), video_clip_length=2)
    dataset = dataset_from_config(settings, seed=3)
    expected = GOLDEN["packs"]["clips"][name]
    assert len(dataset) == len(expected)
    for i, wanted in enumerate(expected):
        found, wanted = described_clip(dataset[SampleKey(0, i)]), dict(wanted)
        cells, images = wanted.pop("cells"), wanted.pop("images")
        found_cells, found_images = found.pop("cells"), found.pop("images")
        assert found == wanted
        if found_images != images:
            assert torch.tensor(found_cells).sub(torch.tensor(cells)).abs().max() < 1


# Work that was interrupted


def test_an_unfinished_pack_goes_on(here: Path) -> None:
    records = load_records("auto", f"{HERE}/videos")
    assert fingerprint(records) == GOLDEN["unfinished"]["fingerprint"]
    pack(records, "pack_begun", PackOptions(4), workers=1)
    assert Path("pack_begun/shard-00000.parquet").stat().st_mtime_ns == MOMENT  # not written again
    found = open_records(DatasetConfig(data_path="pack_begun"))
    masks = [described_masks(record, load_masks, load_void, known_objects) for record in found]
    assert masks == [each for _, each in GOLDEN["packs"]["records"]["pack"]]


def test_an_unfinished_conversion_goes_on(here: Path) -> None:
    records = load_records("auto", f"{HERE}/videos")
    convert(records, f"{HERE}/converted", "davis")
    written = [path for path in Path("converted").rglob("*") if path.is_file()]
    assert written
    assert {path.stat().st_mtime_ns for path in written} == {MOMENT}
    assert len(load_records("auto", "converted")) == 2


# The feature cache


def test_the_feature_cache_is_found_and_read(here: Path) -> None:
    module = SAM2LightningModule(config_of_run())
    module.setup()
    cache = cache_of(module.model, f"{HERE}/features")
    assert (cache.encoder, cache.folder) == (GOLDEN["features"]["encoder"], GOLDEN["features"]["folder"])
    (record,) = open_records(DatasetConfig(data_path=f"{HERE}/kinds/davis"))
    assert list(cache.missing([record])) == []
    assert [digest(level) for level in cache.read(record, [1, 3])] == GOLDEN["features"]["levels"]


# Runs


def config_of_run() -> Config:
    """As the run has written it, for more steps in another folder."""
    config = load_config(OmegaConf.load("run/config.yaml"))
    config.output_dir, config.save_dir = "gone_on", ""
    config.trainer.max_steps = MORE_STEPS
    return config


# Columns of results.csv that came later.
ADDED = {"val/F_hold_first", "val/J&F_hold_first", "val/swap_rate"}


def assert_goes_on(config: Config, expected: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # All that Lightning has to say of a callback's state that no callback takes.
        warnings.filterwarnings("error", message=".*callbacks used to create the checkpoint")
        trainer = train(config)
    state = trainer.lightning_module.state_dict()
    found = statistics({name: value for name, value in state.items() if "memory_attention" in name})
    assert found.keys() == expected["weights"].keys()
    for name, numbers in expected["weights"].items():
        assert found[name] == close(numbers), name
    position = trainer.datamodule.state_dict()  # type: ignore[attr-defined]
    assert [position[key] for key in ("epoch", "clips", "samples_seen")] == expected["clips"]
    written = Path("gone_on/quarantine.jsonl").read_text().splitlines()
    assert list(map(bad_clip, written)) == list(map(bad_clip, expected["quarantined"]))
    rows, wanted = read_rows(Path("gone_on/results.csv")), expected["rows"]
    assert [row.keys() - ADDED for row in rows] == [row.keys() for row in wanted]
    for row, numbers in zip(rows, wanted):
        del row["seconds"]
        # What wrote the files counted an epoch that max_steps had ended as complete.
        numbers = {**numbers, "epoch": max(int(row["step"]) - 1, 0) // STEPS_PER_EPOCH}
        # Where a mask's edge lies may turn on the last bit of a logit, and with it J and F.
        precise = {name for name in row.keys() - ADDED if not re.fullmatch(r"val/[JF].*", name)}
        assert {name: float(row[name]) for name in precise} == close({n: float(numbers[n]) for n in precise})


def bad_clip(line: str) -> dict[str, Any]:
    """An entry of quarantine.jsonl with the error's file alone: what to do about it may be said anew."""
    entry = json.loads(line)
    return {**entry, "error": entry["error"].partition(": ")[0]}


def test_a_run_goes_on_from_within_an_epoch(here: Path) -> None:
    config = config_of_run()
    config.resume = "run/checkpoints/step_00000004.ckpt"
    config.trainer.enable_checkpointing, config.trainer.checkpoint_every_n_steps = False, None
    assert_goes_on(config, GOLDEN["run"]["step_00000004.ckpt"])


def test_a_run_goes_on_in_its_own_folder(here: Path) -> None:
    """From the newest checkpoint that its manifest vouches for."""
    os.rename("run", "gone_on")
    config = load_config(OmegaConf.load("gone_on/config.yaml"))
    config.output_dir, config.save_dir, config.resume = "gone_on", "", "auto"
    config.trainer.max_steps = MORE_STEPS
    assert_goes_on(config, GOLDEN["run"][CHECKPOINTS[-1]])


def test_manifests(here: Path) -> None:
    store = CheckpointStore("run/checkpoints")
    newest, best = store.newest(), store.describe("best.ckpt")
    assert newest is not None
    assert best is not None
    assert (newest.step, newest.epoch, newest.samples_seen, newest.world_size) == (5, 1, 5, 1)
    assert (newest.file, best.file) == (CHECKPOINTS[-1], CHECKPOINTS[0])
    assert [each.reason for each in store.manifests()] == ["validation", "interval", "validation"]


@pytest.mark.parametrize("checkpoint", ["run/checkpoints/step_00000004.ckpt", "ray_run/checkpoints/*.ckpt"])
def test_whoever_keeps_state_finds_it_under_its_name(here: Path, checkpoint: str) -> None:
    """Lightning files it by the names of classes, and says nothing where it finds none."""
    (path,) = Path().glob(checkpoint)
    content = torch.load(path, weights_only=True)
    takers = {each.state_key for each in default_callbacks(config_of_run())}
    assert content["callbacks"].keys() == takers & content["callbacks"].keys()
    assert len(content["callbacks"]) == 3
    assert SAM2LightningDataModule.__qualname__ in content
    assert StreamDataModule.__qualname__ == SAM2LightningDataModule.__qualname__


def test_a_run_on_ray_goes_on_without(here: Path) -> None:
    """Its paths are those of the machine that it ran on, but for the base, which is looked for beside."""
    (path,) = Path("ray_run/checkpoints").glob("*.ckpt")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"] = moved(content["hyper_parameters"])
    torch.save(content, path)
    shutil.copy("base.pt", path.with_name("base.pt"))
    config = config_of_run()
    config.model.config_path = f"{HERE}/network.yaml"
    config.resume = str(path)
    config.trainer.enable_checkpointing, config.trainer.checkpoint_every_n_steps = False, None
    assert_goes_on(config, GOLDEN["ray_run"][path.name])


def moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: moved(each) for key, each in value.items()}
    if isinstance(value, list):
        return [moved(each) for each in value]
    return value.replace(RAY_FOLDER, HERE) if isinstance(value, str) else value


def test_the_model_of_a_checkpoint(here: Path) -> None:
    state = load_model("run/checkpoints/last.ckpt", device="cpu").network.state_dict()
    expected = GOLDEN["run"]["evaluated"]
    assert list(expected) == sorted(list(state)[::25])
    found = statistics({name: state[name] for name in expected})
    for name, numbers in expected.items():
        assert found[name] == close(numbers), name


# Sweeps


SAME_VERSIONS = pytest.mark.skipif(
    made_with() != GOLDEN["made_with"], reason=f"sweeps are pickled by {GOLDEN['made_with']}"
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the fixtures in which this process and Ray run."""
    folder = tmp_path_factory.mktemp("sweeps") / "copy"
    shutil.copytree(FIXTURES, folder)
    variables = {**LOCAL_ENVIRONMENT, "PYTHONPATH": str(REPO), "RAY_CHDIR_TO_TRIAL_DIR": "0", TRUST: "1"}
    with pytest.MonkeyPatch.context() as patch, sigterm_as_before():
        patch.chdir(folder)
        for name, value in variables.items():
            patch.setenv(name, value)
        ray.init(
            address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield folder
        ray.shutdown()


def unless_refused(action: Callable[[], Any]) -> Any:
    """What `action` returns; skips where it refuses an earlier version's sweep in one clear line."""
    try:
        return action()
    except ConfigError as error:
        message = str(error)
        if "\n" in message or "version" not in message or "output_dir" not in message:
            raise
    pytest.skip(f"is refused: {message}")


def assert_same_points(found: list[Any], expected: list[Any]) -> None:
    assert [point["number"] for point in found] == [point["number"] for point in expected]
    for point, wanted in zip(found, expected):
        assert point["values"] == close(wanted["values"])


@SAME_VERSIONS
def test_the_search_of_a_sweep_goes_on(here: Path) -> None:
    sweep = sweep_of("asha")
    searcher = DefaultFirst(optuna_search(sweep, objectives_of(sweep)))
    (state,) = Path("sweeps/asha/tune").glob("searcher-state-*.pkl")
    unless_refused(lambda: searcher.restore(str(state)))
    assert_same_points(suggestions(searcher, 3), GOLDEN["sweeps"]["asha"]["next"])


@SAME_VERSIONS
@pytest.mark.parametrize("name", list(SWEEPS))
def test_a_sweep_is_the_one_that_was_begun_and_its_state_loads(swept: Path, name: str) -> None:
    sweep = sweep_of(name, "resume=auto")
    config = sweep.base.config({})
    storage = run_storage(config)
    if unless_refused(lambda: check_earlier(storage, config, what_is_asked(sweep, config))):
        unless_refused(lambda: restored(sweep, trial_job(sweep, config, storage), storage, 1, Formula))
    else:
        pytest.fail("the sweep would begin anew, over what is there")


@SAME_VERSIONS
def test_a_sweep_goes_on(swept: Path) -> None:
    found, expected = unless_refused(lambda: trials_of("asha")), GOLDEN["sweeps"]["asha"]["trials"]
    assert len(found) == len(expected)
    for (number, values, status, best), wanted in zip(found, expected):
        assert (number, status) == (wanted[0], wanted[2])
        assert values == close(wanted[1])
        assert best == close(wanted[3])
