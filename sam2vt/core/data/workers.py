"""What a DataLoader's worker process does first."""

from __future__ import annotations

import signal
from collections.abc import Callable

import cv2


def init_worker(worker_id: int, then: Callable[[int], None] | None = None) -> None:
    """A `worker_init_fn`: OpenCV keeps to one thread, since the workers are the parallelism.

    Ctrl-C, which a terminal sends to all processes, is the main process's: it may need batches to end well.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker_id)
