"""What a DataLoader's worker process does first."""

from __future__ import annotations

from collections.abc import Callable

import cv2


def init_worker(worker_id: int, then: Callable[[int], None] | None = None) -> None:
    """A `worker_init_fn`: OpenCV keeps to one thread, since the workers are the parallelism."""
    cv2.setNumThreads(0)
    if then is not None:
        then(worker_id)
