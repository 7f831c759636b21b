"""An iterator in a thread gives the same items, the same errors, and leaves no thread."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from sam2vt.core.prediction.ahead import ahead


class Counting:
    """Numbers, the most that were made before they were taken, and whether it was closed, in which thread."""

    def __init__(self, stop: int = 10, fails_at: int | None = None) -> None:
        self.stop, self.fails_at = stop, fails_at
        self.made = 0
        self.closed_in: str | None = None

    def numbers(self) -> Iterator[int]:
        try:
            for number in range(self.stop):
                if number == self.fails_at:
                    raise_here()
                self.made += 1
                yield number
        finally:
            self.closed_in = threading.current_thread().name


def raise_here() -> None:
    raise ValueError("no more of it")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [each for each in threading.enumerate() if each.name == "ahead"] == []


@pytest.mark.parametrize("depth", [1, 4, 100])
def test_the_same_items_in_order(depth: int) -> None:
    counting = Counting()
    assert list(ahead(counting.numbers(), depth)) == list(range(10))
    assert counting.closed_in == "ahead"
    assert list(ahead([], depth)) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_its_depth_is_made(depth: int) -> None:
    counting, reached = Counting(1000), Event()

    def signalled() -> Iterator[int]:
        for number in counting.numbers():
            if counting.made == 1 + depth:
                reached.set()
            yield number

    taken = ahead(signalled(), depth)
    assert next(taken) == 0
    assert reached.wait(5)
    taken.close()
    # One that is taken, `depth` that wait.
    assert counting.made == 1 + depth


def test_an_error_comes_after_the_items_before_it_with_its_traceback() -> None:
    counting, taken = Counting(fails_at=3), []
    with pytest.raises(ValueError, match="no more of it") as caught:
        taken.extend(ahead(counting.numbers()))
    assert taken == [0, 1, 2]
    assert counting.closed_in == "ahead"
    assert "raise_here" in "".join(traceback.format_tb(caught.tb))


def close(taken: Iterator[int]) -> None:
    taken.close()  # type: ignore[attr-defined]


def fail(taken: Iterator[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        taken.throw(KeyboardInterrupt)  # type: ignore[attr-defined]


@pytest.mark.parametrize("leave", [close, fail])
def test_a_consumer_that_stops_early_closes_the_iterator(leave: Callable[[Iterator[int]], None]) -> None:
    counting = Counting(1000)
    taken = ahead(counting.numbers())
    assert [next(taken), next(taken)] == [0, 1]
    leave(taken)
    assert counting.closed_in == "ahead"
    assert counting.made <= 2 + 4


def test_one_that_was_never_begun_has_no_thread() -> None:
    counting = Counting()
    close(ahead(counting.numbers()))
    assert counting.made == 0


def test_an_iterator_that_waits_is_woken_up() -> None:
    woken, waits = Event(), Event()

    def waiting() -> Iterator[int]:
        yield 0
        waits.set()
        assert woken.wait(5)

    taken = ahead(waiting(), interrupt=woken.set)
    assert next(taken) == 0
    assert waits.wait(5)
    close(taken)
    assert woken.is_set()


def test_an_item_that_was_used_is_not_held() -> None:
    class Item:
        pass

    taken = ahead((Item() for _ in range(5)), depth=1)
    first = weakref.ref(next(taken))
    next(taken)
    assert first() is None
    close(taken)


def test_a_program_that_leaves_it_open_ends() -> None:
    program = (
        "from sam2vt.core.prediction.ahead import ahead; a = ahead(iter(range(100))); print(next(a)); 1 / 0"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "0\n")
    assert "ZeroDivisionError" in ended.stderr
