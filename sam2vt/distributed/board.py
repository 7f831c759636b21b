"""What a run is doing, from the first worker to the terminal of whoever started it.

Rank 0 posts to a small actor; the driver reads it a few times a second. On a terminal that is a live
bar, elsewhere a line now and then.
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

_POLL_SECONDS = 0.5
_WAIT_LAYOUT = "{desc} [{elapsed}]"
_BAR_LAYOUT = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}]{postfix}"
_LINE_SECONDS = 20.0  # between two lines where there is no terminal


class Status(TypedDict, total=False):
    """Where a run stands; a post replaces only what it names."""

    phase: str
    step: int
    total_steps: int
    metrics: dict[str, float]  # shown behind the bar


class Board:
    """What the parts of a run tell each other; runs as an actor.

    The newest status and the log lines that nobody has read yet; where the present group of workers began;
    why the run cannot go on, if it cannot; the driver's wish to stop.
    """

    def __init__(self) -> None:
        self._start: Any = None
        self._controller: Any = None
        self._failure: Exception | None = None
        self._status: Status = {}
        self._lines: list[str] = []
        self._validations: list[dict[str, float]] = []
        self._stop = False

    def post(self, status: Status, lines: list[str]) -> bool:
        """True where the run should save and stop."""
        metrics = {**self._status.get("metrics", {}), **status.get("metrics", {})}
        self._status = {**self._status, **status, "metrics": metrics}
        self._lines += lines
        return self._stop

    def stop(self) -> None:
        self._stop = True

    def controlled_by(self, controller: Any) -> None:
        """`controller`: a handle on Ray Train's actor of the run."""
        self._controller = controller

    def controller(self) -> Any:
        return self._controller

    def begin(self, start: Any) -> None:
        """`start`: a `sam2vt.distributed.stream.start.Start`."""
        self._start = start

    def start(self) -> Any:
        return self._start

    def fail(self, error: Exception) -> None:
        self._failure = self._failure or error

    def failure(self) -> Exception | None:
        return self._failure

    def validated(self, row: dict[str, float]) -> None:
        self._validations.append(row)

    def validations(self, first: int = 0) -> list[dict[str, float]]:
        """The rows of all validations from number `first` on."""
        return self._validations[first:]

    def read(self) -> tuple[Status, list[str]]:
        lines, self._lines = self._lines, []
        return self._status, lines


def start_board() -> Any:
    """A handle on a new `Board`; the actor ends with its last handle.

    It stays on the driver's own node: others come and go.
    """
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=node).remote()


class BoardHandler(logging.Handler):
    """Sends log records of a worker to the board, so that the driver shows them."""

    def __init__(self, board: Any) -> None:
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.post.remote({}, [self.format(record)])


def show_logs(board: Any, log_level: str | None = None) -> None:
    """Show this process's log lines of the package on the driver."""
    logger = logging.getLogger("sam2vt")
    if log_level is not None:
        logger.setLevel(log_level)
    logger.propagate = False  # Ray's own handlers would write them a second time
    logger.handlers = [BoardHandler(board)]


class Display:
    """Shows a board while its `with` block runs."""

    def __init__(self, board: Any, stream: TextIO | None = None, live: bool | None = None) -> None:
        self._board = board
        self._stream = stream or sys.stderr
        self._live = _can_redraw(self._stream) if live is None else live
        self._started = time.monotonic()
        self._last_line = 0.0
        self._phases: set[str] = set()  # of which a line was written
        self._bar: tqdm | None = None
        self._done = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Display:
        if self._live:
            self._bar = tqdm(
                desc="starting",
                total=1,
                file=self._stream,
                bar_format=_WAIT_LAYOUT,
                dynamic_ncols=True,
                leave=False,
            )
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
            self._write(line)
        if self._bar is not None:
            _draw(self._bar, status)
        elif status:
            self._say(status)

    def _say(self, status: Status) -> None:
        """A line at the first of each phase, and every so often: phases may change within seconds."""
        now, phase = time.monotonic() - self._started, status.get("phase", "")
        if phase not in self._phases or now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            self._phases.add(phase)
            self._write(f"[{now:5.0f} s] {describe(status)}")

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)


def describe(status: Status) -> str:
    """One line: phase, step and numbers."""
    parts = [status.get("phase", "starting")]
    if status.get("total_steps"):
        parts.append(f"step {status.get('step', 0)}/{status['total_steps']}")
    return ", ".join([*parts, *_numbers(status.get("metrics", {}))])


def _can_redraw(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False


def _draw(bar: tqdm, status: Status) -> None:
    if status.get("total_steps") and bar.bar_format != _BAR_LAYOUT:
        bar.bar_format, bar.start_t = _BAR_LAYOUT, bar._time()  # what is left follows from the steps alone
    bar.total = status.get("total_steps") or 1
    bar.n = status.get("step", 0)
    bar.set_description_str(status.get("phase", "starting"), refresh=False)
    bar.set_postfix_str(", ".join(_numbers(status.get("metrics", {}))), refresh=True)


def _numbers(metrics: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.3g}" for name, value in metrics.items()]
