"""How far a process grows by what it allocates and frees, as the C library on Linux (glibc) does it.

Freed blocks stay with the process and are used again where a new one fits, so a process takes more than what
is alive in it.
"""

from __future__ import annotations

MAX_MMAP_THRESHOLD = 32 << 20  # glibc's DEFAULT_MMAP_THRESHOLD_MAX
ALIGNMENT = 64  # of PyTorch's tensors
# An aligned block is searched for with so much to spare (before glibc 2.38), so it never fits the place of
# one of its own size.
TO_SPARE = 2 * ALIGNMENT


class Heap:
    """Addresses by best fit; freed neighbours are joined, and a free top is given back.

    Blocks beyond a threshold lie outside and are given back at once; freeing one raises the threshold to its
    size, to 32 MiB at most. `peak` is the highest sum of both, in bytes.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._top = 0
        self._mapped = 0
        self._threshold = 128 << 10
        self._free: dict[int, int] = {}  # start -> end
        self._free_ends: dict[int, int] = {}  # end -> start

    def allocate(self, size: int) -> tuple[int, int]:
        """The (start, end) of a new block; start is -1 outside of the heap."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        if size >= self._threshold:
            self._mapped += size
            block = (-1, size)
        else:
            block = self._place(size)
        self.peak = max(self.peak, self._top + self._mapped)
        return block

    def release(self, block: tuple[int, int]) -> None:
        start, end = block
        if start < 0:
            self._mapped -= end
            if end <= MAX_MMAP_THRESHOLD:
                self._threshold = max(self._threshold, end)
            return
        if start in self._free_ends:
            start = self._take(self._free_ends[start])[0]
        if end in self._free:
            end = self._take(end)[1]
        if end == self._top and end - start > 2 * self._threshold:
            self._top = start
        elif end > start:
            self._keep(start, end)

    def _place(self, size: int) -> tuple[int, int]:
        fitting = [
            (end - start, start) for start, end in self._free.items() if end - start >= size + TO_SPARE
        ]
        if fitting:
            start, end = self._take(min(fitting)[1])
            if end - start > size:
                self._keep(start + size, end)
            return start, start + size
        start = self._top
        if start in self._free_ends:  # the top grows from a free block at its end
            start = self._take(self._free_ends[start])[0]
        self._top = start + size
        return start, self._top

    def _take(self, start: int) -> tuple[int, int]:
        end = self._free.pop(start)
        del self._free_ends[end]
        return start, end

    def _keep(self, start: int, end: int) -> None:
        self._free[start] = end
        self._free_ends[end] = start
