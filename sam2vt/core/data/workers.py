"""Processes that read data: what each does first, and a pool of them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2

ENDED = (
    "one of the {workers} processes was ended from outside, as the system does where memory is short; give "
    "fewer --workers"
)


def init_worker(worker_id: int, then: Callable[[int], None] | None = None) -> None:
    """A `worker_init_fn`: OpenCV keeps to one thread, since the workers are the parallelism.

    Ctrl-C, which a terminal sends to all processes, is the main process's: it may need batches to end well.
    """
    _one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker_id)


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Not forked: OpenCV, FFmpeg and Arrow have threads. Where one is killed, `ENDED` is what to say."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    cv2.setNumThreads(0)
