from __future__ import annotations

from sam2vt.core.training.footprint.heap import MAX_MMAP_THRESHOLD, TO_SPARE, Heap

SMALL, LARGE = 64 << 10, 1 << 20


def test_blocks_beyond_the_threshold_are_given_back_and_raise_it() -> None:
    heap = Heap()
    heap.release(heap.allocate(LARGE))
    heap.release(heap.allocate(LARGE // 2))  # lies in the heap from now on
    assert heap.peak == LARGE
    first, second = heap.allocate(LARGE // 2), heap.allocate(SMALL)
    heap.release(first)
    heap.allocate(LARGE // 2 - TO_SPARE)
    assert heap.peak == LARGE  # in the place of the first
    heap.allocate(LARGE - SMALL)
    assert heap.peak == LARGE // 2 + SMALL + LARGE - SMALL
    assert second[0] == LARGE // 2


def test_a_block_does_not_fit_where_one_of_its_size_was() -> None:
    heap = Heap()
    first, _ = heap.allocate(SMALL), heap.allocate(SMALL)
    heap.release(first)
    heap.allocate(SMALL)
    assert heap.peak == 3 * SMALL


def test_freed_neighbours_are_joined() -> None:
    heap = Heap()
    blocks = [heap.allocate(SMALL) for _ in range(4)]
    for block in (blocks[0], blocks[2], blocks[1]):
        heap.release(block)
    assert heap.allocate(3 * SMALL // 2) == (0, 3 * SMALL // 2)
    assert heap.peak == 4 * SMALL


def test_huge_blocks_never_stay() -> None:
    heap = Heap()
    huge = 2 * MAX_MMAP_THRESHOLD
    for _ in range(3):
        heap.release(heap.allocate(huge))
    assert heap.peak == huge
    assert heap.allocate(huge)[0] == -1
