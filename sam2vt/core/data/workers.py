"""Long passes over data: worker processes, and a progress bar."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

import cv2

from sam2vt.errors import DataError

Item = TypeVar("Item")


def init_worker(worker_id: int, then: Callable[[int], None] | None = None) -> None:
    """Set up a data-loader worker: OpenCV keeps to one thread, since the workers are the parallelism.

    Ctrl-C, which a terminal sends to all processes, is the main process's: it may need batches to end well.
    """
    _one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker_id)


@contextmanager
def process_pool(workers: int, then: str = "") -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned processes: OpenCV, FFmpeg and Arrow have threads, which a fork would break.

    Raises DataError where a process is ended from outside; `then` ends its text.
    """
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise DataError(
                f"one of the {workers} processes was ended from outside, as the system does where memory is "
                f"short; give fewer --workers{then}"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    # OpenCV takes a thread per core in each process.
    cv2.setNumThreads(0)


def with_progress(items: Iterable[Item], total: int, unit: str, done: int = 0) -> Iterator[Item]:
    """Yield the items as they come; `done` of the total were there before."""
    # A log would hold a line per step.
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit=unit, initial=done, leave=False)
