"""Let the parts of a run communicate through an actor, and display it in the driver.

Rank 0 posts its progress; the driver reads it twice per second and shows a live bar on a terminal, single
lines elsewhere.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from threading import Event, Thread
from typing import Any, TextIO, TypedDict

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from sam2vt.logs import Lines, digits

_POLL_SECONDS = 0.5
_WAITING: dict[str, Any] = {"desc": "starting", "total": 1, "dynamic_ncols": True, "leave": False}
_WAIT_LAYOUT = "{desc} [{elapsed}]"
_BAR_LAYOUT = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}]{postfix}"
_LINE_SECONDS = 20.0  # between two lines without a terminal


class Status(TypedDict, total=False):
    """The progress of a run; a post replaces only the keys that it has."""

    phase: str
    step: int
    total_steps: int
    metrics: dict[str, float]  # shown after the bar


class Board:
    """State that the driver, Ray Train's controller and the workers of a run share; runs as an actor.

    It keeps the newest status, unread log lines, the start of the current group of workers, the error that
    ends the run, if any, the signal that asked the driver to stop, and how often it was asked to save.
    """

    def __init__(self) -> None:
        self._start: Any = None
        self._controller: Any = None
        self._failure: Exception | None = None
        self._status: Status = {}
        self._lines: list[str] = []
        self._validations: list[dict[str, float]] = []
        self._stop = self._saves = 0

    def post(self, status: Status, lines: list[str]) -> tuple[int, int]:
        """Add to the status and the log.

        Returns the signal by which the run should save and stop, else 0, and how often it should have saved.
        """
        metrics = {**self._status.get("metrics", {}), **status.get("metrics", {})}
        self._status = {**self._status, **status, "metrics": metrics}
        self._lines += lines
        return self._stop, self._saves

    def stop(self, number: int) -> None:
        """Ask the run to save and stop, because of a signal."""
        self._stop = number

    def save(self) -> None:
        """Ask the run to save and continue."""
        self._saves += 1

    def set_controller(self, controller: Any) -> None:
        """Keep the handle on the run's controller, an actor of Ray Train."""
        self._controller = controller

    def get_controller(self) -> Any:
        """Return the controller's handle, None before there is one."""
        return self._controller

    def set_start(self, start: Any) -> None:
        """Keep the `sam2vt.distributed.stream.start.Start` of the next group of workers."""
        self._start = start

    def get_start(self) -> Any:
        """Return the start of the current group of workers."""
        return self._start

    def set_failure(self, error: Exception) -> None:
        """Keep the error that ends the run."""
        self._failure = self._failure or error  # of several ranks' errors the first is the cause

    def get_failure(self) -> Exception | None:
        """Return the error that ends the run, None while it may continue."""
        return self._failure

    def add_validation(self, row: dict[str, float]) -> None:
        """Add the numbers of a validation."""
        self._validations.append(row)

    def get_validations(self, first: int = 0) -> list[dict[str, float]]:
        """Return the rows of all validations from number `first` on."""
        return self._validations[first:]

    def read(self) -> tuple[Status, list[str]]:
        """Return the status and the log lines since the last read."""
        lines, self._lines = self._lines, []
        return self._status, lines


def start_board() -> Any:
    """Start a `Board` as an actor and return its handle; the actor ends with its last handle."""
    # On the driver's own node: others may be taken away.
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=node).remote()


class BoardHandler(logging.Handler):
    """Sends log records of a process to the board, so that the driver shows them."""

    def __init__(self, board: Any) -> None:
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        """Post the formatted record."""
        self._board.post.remote({}, [self.format(record)])


def show_logs(board: Any, log_level: str | None = None) -> None:
    """Show the log lines that this package writes in this process on the driver."""
    logger = logging.getLogger("sam2vt")
    if log_level is not None:
        logger.setLevel(log_level)
    logger.propagate = False  # or Ray's own handlers would write them, too
    logger.handlers = [BoardHandler(board)]
    logger.handlers[0].setFormatter(Lines())


class Display:
    """Shows a board while its `with` block runs."""

    def __init__(self, board: Any, stream: TextIO | None = None, live: bool | None = None) -> None:
        self._board = board
        self._stream = stream or sys.stderr
        self._live = can_redraw(self._stream) if live is None else live
        self._started = time.monotonic()
        self._last_line = 0.0
        self._phases: set[str] = set()  # of which a line was written
        self._bar: tqdm | None = None
        self._done = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Display:
        if self._live:
            self._bar = tqdm(file=self._stream, bar_format=_WAIT_LAYOUT, **_WAITING)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=5)
        if self._bar is not None:
            self._bar.close()

    def _run(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            self._refresh()
        self._refresh()

    def _refresh(self) -> None:
        try:
            status, lines = ray.get(self._board.read.remote(), timeout=5)
        except ray.exceptions.RayError:
            return  # a display that fails must not end a run
        for line in lines:
            tqdm.write(line, file=self._stream)
        if self._bar is not None:
            _draw(self._bar, status)
        elif status:
            self._say(status)

    def _say(self, status: Status) -> None:
        """Print a line when a phase is new, then one per `_LINE_SECONDS`: phases may alternate quickly."""
        now, phase = time.monotonic() - self._started, status.get("phase", "")
        if phase not in self._phases or now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            self._phases.add(phase)
            tqdm.write(f"[{now:5.0f} s] {describe(status)}", file=self._stream)


def describe(status: Status) -> str:
    """Return phase, step and numbers as one line."""
    parts = [status.get("phase", "starting")]
    if status.get("total_steps"):
        parts.append(f"step {status.get('step', 0)}/{status['total_steps']}")
    return ", ".join([*parts, *_numbers(status.get("metrics", {}))])


def can_redraw(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal with a known width, as a pseudo-terminal may not have."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


def _draw(bar: tqdm, status: Status) -> None:
    if status.get("total_steps") and bar.bar_format != _BAR_LAYOUT:
        bar.bar_format, bar.start_t = _BAR_LAYOUT, bar._time()  # else the time left counts the start-up
    bar.total = status.get("total_steps") or 1
    bar.n = status.get("step", 0)
    bar.set_description_str(status.get("phase", "starting"), refresh=False)
    bar.set_postfix_str(", ".join(_numbers(status.get("metrics", {}))), refresh=True)


def _numbers(metrics: Mapping[str, float]) -> list[str]:
    return [f"{name} {digits(value)}" for name, value in metrics.items()]
