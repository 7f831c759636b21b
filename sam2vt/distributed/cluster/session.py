"""Connect to a Ray cluster or start Ray on this machine, and handle the signals that end a driver."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private import services

from sam2vt.config import Config
from sam2vt.errors import EXIT_CODES, ConfigError, first_line
from sam2vt.health.devices import has_gpu_driver
from sam2vt.logs import leave_closed_terminal

log = logging.getLogger(__name__)

RAY_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    # By default a run can report only once per two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # After a loss Ray Train first asks for as many workers as before: its record of the machines, renewed
    # every 20 s, may still hold the lost one. It looks again after this wait, by default only after 60 s.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "25",
    # Others cannot use for so long what a stream that died had reserved; by default for three minutes.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "45",
}
# Watching for machines that are taken away with notice costs a process; the only one is not.
LOCAL_ENVIRONMENT = {**RAY_ENVIRONMENT, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@contextmanager
def ray_session(config: Config) -> Iterator[None]:
    """Connect to the configured cluster, or start Ray on this machine; both end with the block.

    If this process is already connected to a Ray, that one is used and not changed. A local one has no
    dashboard.

    Raises ConfigError if the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    address = config.ray.address or os.environ.get("RAY_ADDRESS")
    shown = config.log_level == "DEBUG"
    level = logging.INFO if shown else logging.ERROR
    logging.getLogger("ray").setLevel(level)
    variables = dict(RAY_ENVIRONMENT if address else LOCAL_ENVIRONMENT)
    if not address:
        # Ray warns of more than four times as many processes as this, by default the machine's CPUs.
        variables["RAY_worker_maximum_startup_concurrency"] = str(config.ray.local_cpus or 0)
    arguments: dict[str, Any] = {"logging_level": level, "log_to_driver": shown}
    with environment(variables), sigterm_as_before():
        if address:
            _connect(address, "ray.address" if config.ray.address else "RAY_ADDRESS", arguments)
        else:
            _check_gpu(config)
            cpus = config.ray.local_cpus or os.cpu_count()
            _start(num_cpus=cpus, include_dashboard=False, **arguments)
        try:
            yield
        finally:
            ray.shutdown()


def _check_gpu(config: Config) -> None:
    """Raise ConfigError before Ray is started on a machine without a GPU for workers that need one."""
    if config.ray.use_gpu and not has_gpu_driver():
        raise ConfigError(
            "ray.use_gpu=true: Ray starts on this machine, which has no driver of a GPU. Give ray.address or "
            "RAY_ADDRESS of a cluster that has GPUs, ray.use_gpu=false to train without one, or install the "
            "driver: nvidia-smi then lists the GPU"
        )


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set missing variables until the block ends: the next session may be of another kind."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def sigterm_as_before() -> Iterator[None]:
    """Restore the handler of SIGTERM that `ray.init` replaces: its own would end the process with code 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@dataclass
class StopRequest:
    """The signal that asked a driver to stop, if one did."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a driver that was asked to stop and has stopped."""
        return EXIT_CODES[self.signal or signal.SIGTERM]

    def stop_if_asked(self) -> None:
        """Raise SystemExit if a signal came; for a driver that has nothing to save yet."""
        if self.signal is not None:
            raise SystemExit(self.exit_code)


def stopping_signals(board: Any) -> AbstractContextManager[StopRequest]:
    """Tell the workers to save and stop at a signal of EXIT_CODES; a second one ends the driver at once.

    At SIGUSR1 they save and continue.
    """

    def save(*_: object) -> None:
        log.warning("SIGUSR1: saving at one of the next steps")
        board.save.remote()

    said = "saving, then stopping; a second one: stopping at once"
    return handling_signals(board.stop.remote, said, {signal.SIGUSR1: save})


@contextmanager
def handling_signals(
    stop: Callable[[int], Any], said: str, others: Mapping[signal.Signals, Any] = MappingProxyType({})
) -> Iterator[StopRequest]:
    """Call `stop` with the signal and log `said` at SIGTERM, Ctrl-C or SIGHUP; end at the second.

    `others` are handlers of further signals. A KeyboardInterrupt that ends the block after a signal becomes
    SystemExit. A SIGHUP that is ignored, as under nohup, stays so. Nothing changes outside the main thread,
    where Python lets nobody handle signals.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, *_: object) -> None:
        if number == signal.SIGHUP:
            leave_closed_terminal()
            if request.signal is not None:  # the shell of a closed terminal sends it once more
                return
        is_second, request.signal = request.signal is not None, signal.Signals(number)
        if is_second:
            raise KeyboardInterrupt  # after any other exception, `ray.get` continues to wait
        log.warning("%s: %s", request.signal.name, said)
        stop(number)

    handlers: dict[signal.Signals, Any] = {**dict.fromkeys(EXIT_CODES, handle), **others}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    except KeyboardInterrupt:
        if request.signal is None:
            raise
        raise SystemExit(request.exit_code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # of a socket's path, by the system
_BELOW_TMPDIR = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # Ray's longest


def _start(**arguments: Any) -> None:
    """Start Ray on this machine. Raises ConfigError if it cannot start."""
    folder, most = get_default_system_temp_dir(), _SOCKET_BYTES - len(_BELOW_TMPDIR)
    if len(os.fsencode(folder)) > most:  # seen before half of Ray has started
        name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
        raise ConfigError(
            f"{name}={folder}: is too long for the sockets that Ray has below it; set RAY_TMPDIR to a folder "
            f"of at most {most} bytes, such as /tmp"
        )
    try:
        with own_session():
            ray.init(address="local", **arguments)
    except Exception as error:  # of several kinds, by what of it fails
        ray.shutdown()
        raise ConfigError(
            f"Ray cannot be started on this machine: {first_line(error)}. See that there is space in "
            f"{folder} (RAY_TMPDIR names another folder) and in /dev/shm, or do without Ray: `sam2vt train`"
        ) from error


@contextmanager
def own_session() -> Iterator[None]:
    """Start Ray's processes outside of this one's group, whose signals are for the driver alone.

    A batch system and `timeout` send SIGTERM to the group: Ray would end before its workers have saved.
    """
    popen = services.ConsolePopen
    # Elsewhere Ray ends its processes by their group.
    if sys.platform.startswith("linux"):
        services.ConsolePopen = partial(popen, start_new_session=True)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        services.ConsolePopen = popen  # type: ignore[misc]


def _connect(address: str, setting: str, arguments: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **arguments)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{setting}={address}: no Ray cluster can be reached there ({error}). Start one (`ray start "
            f"--head`, `ray up`), give the address of a running one, host:port or auto, or leave out both "
            f"ray.address and RAY_ADDRESS to have Ray started on this machine"
        ) from error
