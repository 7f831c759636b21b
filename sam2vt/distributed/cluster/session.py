"""Ray itself: a cluster to connect to, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from sam2vt.config import Config
from sam2vt.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE, ConfigError

log = logging.getLogger(__name__)

RAY_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    # By default a run can report only once in two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # After a loss Ray Train first asks for as many workers as before: its record of the machines, renewed
    # every 20 s, may still hold the lost one. It looks again after this wait, by default only after 60 s.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "25",
    # What a stream that died had reserved is kept from others for so long, by default for three minutes.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "45",
}
# Nobody takes away the only machine with notice; watching for that takes a process of its own.
LOCAL_ENVIRONMENT = {**RAY_ENVIRONMENT, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@contextmanager
def ray_session(config: Config, dashboard: bool = False) -> Iterator[None]:
    """Connect to the configured cluster, or start Ray on this machine; both end with the block.

    Where Ray is started here `dashboard` brings up its dashboard, on localhost: what cleans up after a run
    that was ended from outside asks it which processes there are.

    A Ray that this process is connected to already is used and left as it is. Raises ConfigError where
    the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    address = config.ray.address or os.environ.get("RAY_ADDRESS")
    shown = config.log_level == "DEBUG"
    logging.getLogger("ray").setLevel(logging.INFO if shown else logging.ERROR)
    variables = dict(RAY_ENVIRONMENT if address else LOCAL_ENVIRONMENT)
    if not address:
        # Ray warns of more than four times as many processes as this, by default the machine's CPUs.
        variables["RAY_worker_maximum_startup_concurrency"] = str(config.ray.local_cpus or 0)
    arguments: dict[str, Any] = {
        "logging_level": logging.INFO if shown else logging.ERROR,
        "log_to_driver": shown,
    }
    with environment(variables), sigterm_as_before():
        if address:
            _connect(address, "ray.address" if config.ray.address else "RAY_ADDRESS", arguments)
        else:
            ray.init(address="local", **arguments, **local_ray(config.ray.local_cpus, dashboard))
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets what is not set, for as long as the block takes: the next session may be of another kind."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def sigterm_as_before() -> Iterator[None]:
    """Put back the handler of SIGTERM that `ray.init` replaces: its own would end the process with 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


EXIT_CODES = {signal.SIGTERM: SIGTERM_EXIT_CODE, signal.SIGINT: SIGINT_EXIT_CODE}


@dataclass
class StopRequest:
    """Which signal asked a run to stop, if one did."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """What the driver ends with once the run has saved and stopped."""
        return EXIT_CODES[self.signal or signal.SIGTERM]

    def stop_if_asked(self) -> None:
        """End a driver that has nothing to save yet."""
        if self.signal is not None:
            raise SystemExit(self.exit_code)


@contextmanager
def stopping_signals(board: Any) -> Iterator[StopRequest]:
    """On SIGTERM or Ctrl-C the workers are told to save and stop; a second signal ends the driver at once.

    Outside the main thread, where Python lets nobody handle signals, nothing changes.
    """
    request, again = StopRequest(), list[signal.Signals]()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def stop(number: int, *_: object) -> None:
        if request.signal is not None:
            again.append(signal.Signals(number))
            raise KeyboardInterrupt  # `ray.get` goes on waiting after any other exception
        request.signal = signal.Signals(number)
        log.warning("%s: saving, then stopping; again: stop at once", request.signal.name)
        board.stop.remote()

    before = {number: signal.signal(number, stop) for number in EXIT_CODES}
    try:
        yield request
    except KeyboardInterrupt:
        if not again:
            raise
        raise SystemExit(EXIT_CODES[again[0]]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(address: str, setting: str, arguments: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **arguments)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{setting}={address}: no Ray cluster can be reached there ({error}). Start one (`ray start "
            f"--head`, `ray up`), give the address of one that runs, host:port or auto, or leave out both "
            f"ray.address and RAY_ADDRESS to have Ray started on this machine"
        ) from error


def local_ray(num_cpus: int | None, dashboard: bool = False) -> dict[str, Any]:
    """Arguments of `ray.init` for a small Ray of one's own, by default with this machine's CPUs."""
    return {"num_cpus": num_cpus or os.cpu_count(), "include_dashboard": dashboard}
