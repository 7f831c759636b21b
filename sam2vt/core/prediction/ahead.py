"""Produce the items of an iterator ahead of their use, in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, main_thread
from typing import Any, TypeVar

Item = TypeVar("Item")

_LOOK_AFTER = 1.0  # seconds, between looks whether the program has ended while nobody takes items


def ahead(
    items: Iterable[Item], depth: int = 4, interrupt: Callable[[], None] | None = None
) -> Iterator[Item]:
    """Yield the items of an iterator, which runs in a thread, at most `depth` items ahead.

    An error of the iterator is raised here, after the items before it, with its own traceback. If the
    consumer stops early or fails, the iterator is closed in its thread, and this returns after the thread has
    ended. `interrupt` is called first, to wake up an iterator that waits for data. The thread starts when the
    first item is requested.
    """
    worker = _Worker(items, max(1, depth))
    try:
        yield from worker
    finally:
        worker.stop(interrupt)


class _Worker:
    """The thread and its items; one permit per item bounds the memory."""

    def __init__(self, items: Iterable[Any], depth: int) -> None:
        self._items = items
        self._permits, self._stopping = Semaphore(depth), Event()
        self._made: SimpleQueue[tuple[bool, Any]] = SimpleQueue()  # (True, item), or (False, error or None)
        # No daemon: one that decodes while the interpreter is taken down can crash the process.
        self._thread = Thread(target=self._run, name="ahead")
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        while True:
            is_item, value = self._made.get()
            if is_item:
                self._permits.release()
                yield value
                # Else a frame would be held here while the next ones are waited for.
                del value
            elif value is None:
                return
            else:
                raise value

    def stop(self, interrupt: Callable[[], None] | None) -> None:
        """Stop the thread and wait for its end."""
        self._stopping.set()
        self._permits.release()
        if interrupt is not None and self._thread.is_alive():
            interrupt()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            iterator = iter(self._items)
            try:
                while self._may_go_on():
                    # By next, not by for: a loop variable would hold an item more.
                    self._made.put((True, next(iterator)))
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
        except StopIteration:
            pass
        except BaseException as raised:  # SystemExit, too: the consumer decides
            error = raised
        self._made.put((False, error))

    def _may_go_on(self) -> bool:
        """Wait for a permit; return False if the consumer is gone."""
        while not self._permits.acquire(timeout=_LOOK_AFTER):
            # A consumer that was left open: the interpreter waits for this thread before it ends.
            if not main_thread().is_alive():
                return False
        return not self._stopping.is_set()
