"""Let this process keep the memory that it frees, on a CPU with glibc.

glibc gives a free end of its heap back to the system, and every large block. The next step or frame takes
them anew, and the system fills each page with zeros first.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_ENOUGH = 2**31 - 1  # bytes at the end of the heap
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keeps_freed_memory() -> bool:
    """Whether `keep_freed_memory` has an effect: with glibc, unless the environment sets it up itself."""
    return _mallopt() is not None


def keep_freed_memory() -> None:
    """Let the process reuse what it frees. It does not shrink any more, whatever else it does."""
    if (mallopt := _mallopt()) is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _ENOUGH)


def _mallopt() -> Callable[[int, int], int] | None:
    is_set = any(name in os.environ for name in _USERS_OWN)
    if is_set or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
