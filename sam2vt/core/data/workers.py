"""Run long passes over data: worker processes, and a progress bar."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import TypeVar

import cv2

from sam2vt.errors import SIGTERM_EXIT_CODE, DataError, TrainingError

Item = TypeVar("Item")

TIMEOUT_SECONDS = 1800.0
_SIGNAL_SECONDS = 0.2
_SHM = "/dev/shm"
_FULL_EXIT_CODE = 93  # of a data-loader worker that found it full
_LOST = re.compile(r"DataLoader (worker \(pid.*\) (exited|is killed)|timed out)")


def init_worker(worker_id: int, then: Callable[[int], None] | None = None) -> None:
    """Set up a data-loader worker: one thread; the loading process handles signals.

    A batch that cannot be sent ends the worker: PyTorch would drop it, and the loader would wait forever.
    """
    _set_up()
    _outlive_sigterm()
    Queue._on_queue_feeder_error = staticmethod(_exit_unsent)  # type: ignore[attr-defined]
    if then is not None:
        then(worker_id)


def _exit_unsent(error: BaseException, batch: object) -> None:
    is_full = any(text in str(error) for text in ("shared memory", "No space left"))
    if not is_full:
        print(f"data-loader worker: a batch cannot be sent: {error}", file=sys.stderr, flush=True)
    os._exit(_FULL_EXIT_CODE if is_full else 1)


def loader_timeout(num_workers: int) -> float:
    """Return the seconds after which a loader gives up, far more than slow storage takes; 0 means never."""
    # In another thread PyTorch looks after its workers only between two timeouts.
    in_main_thread = threading.current_thread() is threading.main_thread()
    return TIMEOUT_SECONDS if num_workers and in_main_thread else 0


@contextmanager
def explained_workers(num_workers: int) -> Iterator[None]:
    """Turn the loss of one of `num_workers` data-loader workers into a TrainingError that says what to do."""
    try:
        yield
    except RuntimeError as error:
        # Where the signal of a worker's end comes first, it is the cause, and knows more.
        text = next((str(each) for each in (error.__cause__, error) if _LOST.search(str(each))), "")
        if not text:
            raise
        shm = shutil.disk_usage(_SHM) if os.path.isdir(_SHM) else None
        if "timed out" in text:
            why = "see that the storage of the data answers; with dataset.num_workers=0 it is seen what waits"
        elif shm and ("Bus error" in text or f"exit code {_FULL_EXIT_CODE}" in text):
            why = (
                f"{_SHM} is full, with {shm.total / 1e6:.0f} MB for the batches of {num_workers} workers. "
                f"Give the container more (docker run --shm-size=8g), or set fewer dataset.num_workers"
            )
        else:
            why = "the system does so where memory is short; set fewer dataset.num_workers"
        raise TrainingError(f"{text.partition('. ')[0].strip(' .')}: {why}") from error


@contextmanager
def process_pool(workers: int, then: str = "") -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned processes: OpenCV, FFmpeg and Arrow have threads, which forking would break.

    Raises DataError if a process is killed from outside; `then` ends its text. SIGTERM and Ctrl-C end the
    processes at once, by SystemExit with code 143 or by KeyboardInterrupt.
    """
    spawned = get_context("spawn")
    with _exit_on_sigterm(), ProcessPoolExecutor(workers, spawned, initializer=_set_up) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            time.sleep(_SIGNAL_SECONDS)  # a signal to the whole group ends this process, too
            raise DataError(
                f"one of the {workers} processes was ended from outside, as the system does where memory is "
                f"short; give fewer --workers{then}"
            ) from None
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            for process in list((pool._processes or {}).values()):  # closing the pool waits for their tasks
                process.kill()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the block, where nothing else has been made of it."""

    def end(*_: object) -> None:
        raise SystemExit(SIGTERM_EXIT_CODE)

    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _set_up() -> None:
    # OpenCV takes a thread per core in each process.
    cv2.setNumThreads(0)
    # A terminal sends Ctrl-C to all processes; the one that started these may need them to end well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _outlive_sigterm() -> None:
    """Let SIGTERM end this process only where its parent sends it, and SIGHUP never.

    Batch systems and terminals send them to all processes.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS: nothing tells who sends a signal
        return

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    # Before other threads start: they inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def with_progress(items: Iterable[Item], total: int, unit: str, done: int = 0) -> Iterator[Item]:
    """Yield the items with a progress bar; `done` of the total were finished before."""
    # A log would hold a line per step.
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit=unit, initial=done, leave=False)
