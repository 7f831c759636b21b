"""Worker processes: signals are left to the process that started them, and none is lost in silence."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from sam2vt.core.data.workers import explained_workers, init_worker, loader_timeout, process_pool
from sam2vt.errors import TrainingError

FORK = multiprocessing.get_context("fork")  # faster than spawning, and nothing here has threads that matter


class Numbers(Dataset):
    def __init__(self, *bad: Any) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.bad[0] if self.bad and index == 2 else (index, os.getpid())


class Unsendable:
    """What no queue takes: as a tensor for which shared memory has no room."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        raise RuntimeError(self.text)


class Deadly:
    """Ends the worker when it is sent."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return int, ()


def loader(*bad: Any, **options: Any) -> DataLoader:
    settings = {"num_workers": 2, "worker_init_fn": init_worker, "multiprocessing_context": FORK}
    return DataLoader(Numbers(*bad), batch_size=None, **{**settings, **options})


def test_a_loader_s_workers_outlive_signals_to_the_group() -> None:
    batches = iter(loader())
    pids = {next(batches)[1] for _ in range(2)}
    assert len(pids) == 2
    for name in ("TERM", "INT", "HUP"):  # from another process than the one that loads
        subprocess.run(["kill", f"-{name}", *map(str, pids)], check=True)
    time.sleep(0.2)
    assert [index for index, _ in batches] == [2, 3]


@pytest.mark.timeout(60)
def test_a_process_with_a_loader_that_nobody_has_closed_ends(tmp_path: Path) -> None:
    """The workers end when their parent tells them to, as Python does at its exit."""
    script = tmp_path / "loads.py"
    script.write_text(LOADS)
    ended = subprocess.run([sys.executable, str(script)], env=ENVIRONMENT, timeout=50, check=False)
    assert ended.returncode == 0


LOADS = """
import os
from torch.utils.data import DataLoader
from sam2vt.core.data.workers import init_worker

kept = DataLoader(range(8), num_workers=2, worker_init_fn=init_worker, persistent_workers=True)
batches = iter(kept)
next(batches)
"""
REPO = Path(__file__).resolve().parents[4]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONFAULTHANDLER": "1"}


FULL = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            Unsendable(FULL),
            r"exit code 93: /dev/shm is full, with \d+ MB for the batches of 2 workers.*shm-size",
        ),
        (Unsendable("too odd"), "exited unexpectedly"),
        (Deadly(), r"killed by signal: Killed: .*memory is short; set fewer dataset\.num_workers"),
    ],
)
def test_a_batch_that_cannot_be_sent_ends_in_one_message(bad: Any, message: str) -> None:
    """PyTorch alone would wait for it for ever."""
    with pytest.raises(TrainingError, match=message) as caught, explained_workers(2):
        list(loader(bad))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible", "is full.*--shm-size"),
        ("DataLoader timed out after 1800.0 seconds", "the storage of the data answers"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "memory is short"),
    ],
)
def test_what_pytorch_says_of_lost_workers_is_explained(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message), explained_workers(4):
        raise RuntimeError(text)


def test_other_errors_are_left_as_they_are() -> None:
    text = "Caught RuntimeError in DataLoader worker process 0."
    with pytest.raises(RuntimeError, match="process 0") as caught, explained_workers(4):
        raise RuntimeError(text)
    assert type(caught.value) is RuntimeError


def test_a_loader_gives_up_only_after_what_no_storage_takes() -> None:
    assert loader_timeout(2) >= 600
    assert loader_timeout(0) == 0  # which PyTorch would refuse


POOL = """
import os, signal, sys, threading, time
from sam2vt.core.data.workers import process_pool

def work(number):
    return os.getpid()

if __name__ == "__main__":
    with process_pool(1) as pool:
        print(pool.submit(work, 0).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_pool_ends_with_the_signal_s_code_and_leaves_no_process(
    tmp_path: Path, number: int, code: int
) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL.replace('if __name__ == "__main__":', GUARD))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    said = ""
    for _ in range(10):  # Python drops a KeyboardInterrupt that falls into a finaliser; a user presses again
        os.killpg(process.pid, number)
        try:
            _, said = process.communicate(timeout=5)
            break
        except subprocess.TimeoutExpired:
            continue
    if process.returncode is None:  # where it hangs is told by PYTHONFAULTHANDLER
        os.killpg(process.pid, signal.SIGABRT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said
    until = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()


GUARD = """from sam2vt.errors import exit_on_error
if __name__ == "__main__":
  with exit_on_error():"""


def test_a_pool_leaves_the_process_as_it_was() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an earlier test's Trainer may have left its own
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with process_pool(1):
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
