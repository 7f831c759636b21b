"""The folder of a run is taken by one run alone, and gone where the run is refused."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from sam2vt import run_folder
from sam2vt.core.storage.disk import new_folder
from sam2vt.errors import ConfigError, TrainingError
from sam2vt.run_folder import alone_in, own_run_folder

DATED = re.compile(r"runs/mine/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?")
REPO = Path(__file__).resolve().parents[2]
QUIET = {"env": {**os.environ, "PYTHONPATH": str(REPO)}, "capture_output": True, "text": True, "check": False}
GIVEN = ["dataset.data_path=x", "name=mine"]


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All runs begin in the same second."""
    found = run_folder._folder_of(GIVEN)
    monkeypatch.setattr(run_folder, "_folder_of", lambda _: found)
    yield


def folder_of(overrides: list[str]) -> Path:
    return Path(overrides[-1].removeprefix("output_dir="))


def test_runs_of_the_same_second_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(_: int) -> Path:
        with own_run_folder(GIVEN) as overrides:
            assert overrides[:-1] == GIVEN
            return folder_of(overrides)

    with frozen_clock(monkeypatch), ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(begin, range(4)))
    assert len(set(folders)) == 4
    assert all(folder.is_dir() and DATED.fullmatch(str(folder)) for folder in folders)


@pytest.mark.parametrize(
    "overrides",
    [["output_dir=here"], ["output_dir='he=re'"], ["++output_dir=here"], ["output_dir=${name}/a"]],
)
def test_a_folder_that_is_named_is_taken_as_it_is(overrides: list[str]) -> None:
    for _ in range(2):
        with own_run_folder([*GIVEN, *overrides]) as placed:
            assert placed == [*GIVEN, *overrides]
    assert any(Path().iterdir())


@pytest.mark.parametrize(
    "overrides", [["--cfg", "job"], ["-m", "seed=0,1"], ["hydra.run.dir=a"], ["model=tinny"]]
)
def test_hydra_s_own_options_and_faults_are_left_to_others(overrides: list[str]) -> None:
    with own_run_folder([*GIVEN, *overrides]) as placed:
        assert placed == [*GIVEN, *overrides]
    assert not list(Path().iterdir())


@pytest.mark.parametrize("overrides", [[], ["output_dir=a/b/c"]])
@pytest.mark.parametrize("error", [ConfigError("wrong"), SystemExit(2), KeyboardInterrupt()])
def test_a_refused_run_leaves_nothing(overrides: list[str], error: BaseException) -> None:
    with pytest.raises(type(error)), own_run_folder([*GIVEN, *overrides]) as placed:  # noqa: PT012
        folder = folder_of(placed)
        assert folder.is_dir()
        if not isinstance(error, KeyboardInterrupt):
            (folder / ".hydra").mkdir()
            (folder / ".hydra" / "config.yaml").write_text("")
            (folder / "train.log").write_text("")
        raise error
    assert not list(Path().iterdir())


@pytest.mark.parametrize("error", [TrainingError("diverged"), SystemExit(3), SystemExit(143)])
def test_a_run_that_failed_keeps_its_folder(error: BaseException) -> None:
    with pytest.raises(type(error)), own_run_folder([*GIVEN, "output_dir=a"]):  # noqa: PT012
        Path("a/train.log").write_text("")
        raise error
    assert Path("a/train.log").is_file()


@pytest.mark.parametrize("name", ["results.csv", "checkpoints/step_1.ckpt", "notes.txt"])
def test_what_is_of_use_is_kept(name: str) -> None:
    with pytest.raises(ConfigError), own_run_folder([*GIVEN, "output_dir=a"]):  # noqa: PT012
        Path("a", name).parent.mkdir(exist_ok=True)
        Path("a", name).write_text("")
        Path("a/config.yaml").write_text("")
        raise ConfigError("bad sample in the last epoch")
    assert Path("a", name).is_file()
    assert Path("a/config.yaml").is_file()


def test_a_folder_that_was_there_is_left_as_it_was() -> None:
    Path("a/.hydra").mkdir(parents=True)
    Path("a/train.log").write_text("of before")
    with pytest.raises(ConfigError), own_run_folder([*GIVEN, "output_dir=a"]):
        raise ConfigError("wrong")
    assert Path("a/train.log").read_text() == "of before"
    assert Path("a/.hydra").is_dir()


def test_the_tasks_of_a_slurm_step_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "77"}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        with own_run_folder(GIVEN) as placed:
            assert placed == [*GIVEN, "output_dir=runs/mine/job_77"]


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "SLURM_LOCALID", "SLURM_PROCID"])
def test_variables_that_are_no_numbers_leave_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each, value in {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", name: ""}.items():
        monkeypatch.setenv(each, value)
    with pytest.raises(ConfigError, match=f"{name}=: must be a number"), own_run_folder(GIVEN):
        pass
    assert not list(Path().iterdir())


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """Also in the first moments, before there is anything but the folder."""
    begin = "from sam2vt.run_folder import own_run_folder as own\nwith own(['output_dir=here']): "
    with own_run_folder(["output_dir=here"]):
        Path("here/train.log").write_text("of the first")
        second = subprocess.run([sys.executable, "-c", begin + "pass"], **QUIET)  # type: ignore[call-overload]
        assert "here: another training is writing there" in second.stderr
        assert Path("here/train.log").read_text() == "of the first"
    third = subprocess.run([sys.executable, "-c", begin + "import os; os.kill(os.getpid(), 9)"], **QUIET)  # type: ignore[call-overload]
    assert third.returncode == -9
    with (
        own_run_folder(["output_dir=here"]),
        alone_in("here"),
    ):  # of the same process: `train` within the verb
        pass
    assert [path.name for path in Path("here").iterdir()] == ["train.log"]


def test_a_killed_run_is_not_followed_by_its_data_loader_workers(tmp_path: Path) -> None:
    """They outlive it by seconds; a forked process does not keep the folder."""
    begin = "import os, time\nfrom sam2vt.run_folder import alone_in\nwith alone_in('here'):\n "
    fork = "os.fork() or print(os.getpid(), flush=True); time.sleep(30)"
    killed = subprocess.Popen(
        [sys.executable, "-c", begin + fork], stdout=subprocess.PIPE, text=True, env=QUIET["env"]
    )
    assert killed.stdout is not None
    worker = int(killed.stdout.readline())  # the forked process runs, not only its parent's fork
    killed.kill()
    assert killed.wait(30) == -9
    try:
        with alone_in("here"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize(("name", "shares"), [("RANK", True), ("SLURM_PROCID", True), ("NO_RANK", False)])
def test_the_ranks_of_a_run_share_its_folder(
    monkeypatch: pytest.MonkeyPatch, name: str, shares: bool
) -> None:
    refused = nullcontext() if shares else pytest.raises(ConfigError, match="here: another")
    with alone_in("here"), monkeypatch.context() as other:
        other.setattr(run_folder, "_held", set())  # as in another process
        other.setenv(name, "1")
        with refused, alone_in("here"):
            pass


def test_auto_in_a_new_folder_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sam2vt"), own_run_folder([*GIVEN, "resume=auto"]):
        pass
    assert "nothing is ever found there" in caplog.text


def test_a_new_folder_is_the_next_that_is_free() -> None:
    for name in ("a/b", "a/b_2", "a/b_3"):
        with new_folder("a/b", alone=True) as folder:
            assert folder == Path(name)
    with new_folder("a/b") as folder:
        assert folder == Path("a/b")


def test_of_a_failed_one_only_what_is_empty_and_new_is_removed() -> None:
    Path("old").mkdir()
    with pytest.raises(ValueError, match="no"), new_folder("old/a/b"):
        raise ValueError("no")
    assert Path("old").is_dir()
    assert not Path("old/a").exists()
    with pytest.raises(ValueError, match="no"), new_folder("old/a/b"):  # noqa: PT012
        Path("old/a/kept").write_text("")
        raise ValueError("no")
    assert [path.name for path in Path("old/a").iterdir()] == ["kept"]


def test_a_file_in_the_way_is_an_error() -> None:
    Path("file").write_text("")
    for path in ("file", "file/a"):
        with pytest.raises(OSError, match="file"), new_folder(path):
            pass
    assert Path("file").is_file()
