"""Let this process keep the memory that it frees, on a CPU with glibc.

glibc gives a free end of its heap back to the system, and every large block. The next step or frame takes
them anew, and the system fills each page with zeros first.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_ENOUGH = 2**31 - 1  # bytes at the end of the heap
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keeps_freed_memory() -> bool:
    """Whether `keep_freed_memory` has an effect: on Linux, unless the environment sets up glibc itself."""
    mine = any(name in os.environ for name in _USERS_OWN) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    return sys.platform == "linux" and not mine


def keep_freed_memory() -> None:
    """Let the process reuse what it frees; it shrinks no more, and grows to what it needs at most at once."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if keeps_freed_memory() else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _ENOUGH)
