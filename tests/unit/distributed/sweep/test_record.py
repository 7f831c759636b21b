"""Sweeps that an earlier version began: their settings are compared, their pickled state is read."""

from __future__ import annotations

import importlib
import json
import pickle
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from sam2vt.config import Config, SweepConfig
from sam2vt.configuration.sweep import Sweep
from sam2vt.configuration.sweep_space import Dimension, Space
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep import record
from sam2vt.distributed.sweep.record import (
    StateReader,
    check_earlier,
    renew_state,
    what_is_asked,
    write_record,
)
from sam2vt.errors import ConfigError

SPACE = Space((Dimension("optimizer.lr", "log_uniform", (1e-5, 1e-3)),), {"optimizer.lr": 1e-4})
# Of each moved class one object, its module then and now.
MOVED: list[tuple[Any, str, str]] = [
    (SPACE, "sam2vt.configuration.space", "sam2vt.configuration.sweep_space"),
    (Sweep(SweepConfig(), SPACE, None), "sam2vt.configuration.sweeping", "sam2vt.configuration.sweep"),  # type: ignore[arg-type]
    (RunStorage("/runs/a"), "sam2vt.distributed.storage", "sam2vt.distributed.cluster.storage"),
]


def written_before(content: Any, module: str, now: str) -> bytes:
    """The pickle of a version that had the classes of module `now` in another one."""
    pickled = pickle.dumps(content, protocol=2, fix_imports=False)  # it has names as plain lines
    assert f"c{now}\n".encode() in pickled
    return pickled.replace(f"c{now}\n".encode(), f"c{module}\n".encode())


@pytest.mark.parametrize(("content", "module", "now"), MOVED)
def test_classes_that_have_moved_are_found(content: Any, module: str, now: str) -> None:
    reader = StateReader(written_before(content, module, now), "state.pkl")
    assert reader.load() == content
    assert reader.moved


def test_the_names_that_may_be_pickled_exist() -> None:
    for module, names in record._PICKLED.items():
        for name in names:
            reduce(getattr, name.split("."), importlib.import_module(module))
    assert set(record._MOVED.values()) <= record._PICKLED.keys()


@pytest.mark.parametrize(
    "content", [Config(), Path("a"), ConfigError], ids=["our own", "another package", "an error"]
)
def test_what_no_sweep_pickles_is_refused_in_one_message(content: Any) -> None:
    reader = StateReader(pickle.dumps(content), "/sweeps/a/tune/tuner.pkl")
    with pytest.raises(ConfigError, match=r"/sweeps/a/tune/tuner.pkl: .*unknown here.*another output_dir"):
        reader.load()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(SPACE)[:-20]])
def test_damaged_state_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        StateReader(content, "state.pkl").load()


def test_the_state_that_tune_reads_is_rewritten_once(tmp_path: Path) -> None:
    storage, state = RunStorage(str(tmp_path)), tmp_path / record.TUNE_FOLDER / "tuner.pkl"
    state.parent.mkdir()
    state.write_bytes(written_before(*MOVED[0]))
    renew_state(storage)
    renewed = state.read_bytes()
    assert cloudpickle.loads(renewed) == SPACE
    renew_state(storage)
    assert state.read_bytes() == renewed
    assert [path.name for path in state.parent.iterdir()] == ["tuner.pkl"]


def asked() -> dict[str, Any]:
    return what_is_asked(Sweep(SweepConfig(), SPACE, None), Config())  # type: ignore[arg-type]


def test_settings_added_or_removed_since_do_not_make_it_another_sweep(tmp_path: Path) -> None:
    storage, begun = RunStorage(str(tmp_path)), {**asked(), "model.of_before": True}
    del begun["model.num_maskmem"]
    write_record(storage, begun)
    assert not check_earlier(storage, Config(resume="auto"), asked())  # Tune has stored nothing yet
    with pytest.raises(ConfigError, match="another sweep: model.num_maskmem was 7, is 3"):
        check_earlier(storage, Config(resume="auto"), {**asked(), "model.num_maskmem": 3})


def test_another_value_makes_it_another_sweep(tmp_path: Path) -> None:
    storage = RunStorage(str(tmp_path))
    write_record(storage, {**asked(), "loss.smooth": 2.0})
    assert json.loads((tmp_path / record.RECORD).read_text())["loss.smooth"] == 2.0
    with pytest.raises(ConfigError, match="loss.smooth was 2.0"):
        check_earlier(storage, Config(resume="auto"), asked())
