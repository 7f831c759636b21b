from __future__ import annotations

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import services

from sam2vt.config import Config, RayConfig
from sam2vt.distributed.cluster import session
from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, ray_session, stopping_signals
from sam2vt.errors import ConfigError


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Ray that is found nowhere (it would look for half a minute); the addresses that were tried."""
    tried = []

    def init(address: str, **_: Any) -> None:
        tried.append(address)
        raise ConnectionError("timed out")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tried


def test_an_unreachable_address_is_named(unreachable: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "other:1")
    with (
        pytest.raises(ConfigError, match=r"^ray\.address=127\.0\.0\.1:1: .*timed out.*ray start"),
        ray_session(Config(ray=RayConfig(address="127.0.0.1:1"))),
    ):
        pass
    assert unreachable == ["127.0.0.1:1"]


def test_an_unreachable_address_of_the_environment_is_named(
    unreachable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS=127\.0\.0\.1:1: "), ray_session(Config()):
        pass
    assert unreachable == ["127.0.0.1:1"]


def test_gpus_are_missing_before_ray_starts(unreachable: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's are its own: what this machine has says nothing of them."""
    monkeypatch.setattr(session, "has_gpu_driver", lambda: False)
    here, elsewhere = RayConfig(use_gpu=True), RayConfig(use_gpu=True, address="127.0.0.1:1")
    with (
        pytest.raises(ConfigError, match=r"^ray\.use_gpu=true: .*RAY_ADDRESS"),
        ray_session(Config(ray=here)),
    ):
        pass
    assert not unreachable
    with pytest.raises(ConfigError, match=r"^ray\.address=127"), ray_session(Config(ray=elsewhere)):
        pass


@pytest.mark.parametrize("address", ["no port", "http://host:1:2"])
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What Ray itself says of it, without waiting for anything."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(ConfigError, match=f"^ray.address={address}: "),
        ray_session(Config(ray=RayConfig(address=address))),
    ):
        pass


def test_the_process_keeps_its_own_way_of_ending(monkeypatch):
    """`ray.init` takes SIGTERM for itself, which would hide ours from a run that comes later."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_session(Config()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_session_on_this_machine_leaves_nothing_for_one_on_a_cluster(monkeypatch):
    """Such as that nobody watches for machines that go away."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    for name in LOCAL_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "7")
    before = dict(os.environ)
    with ray_session(Config()):
        assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
        assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "7"
    assert dict(os.environ) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_tells_the_board_and_the_second_ends_the_driver(number: int, code: int) -> None:
    told: list[int] = []
    board = SimpleNamespace(stop=SimpleNamespace(remote=told.append))
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as end, stopping_signals(board) as request:  # noqa: PT012
        assert request.signal is None
        os.kill(os.getpid(), number)
        assert (told, request.signal, request.exit_code) == ([number], number, code)
        with pytest.raises(KeyboardInterrupt):  # for which alone `ray.get` lets go
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt
    assert (end.value.code, told) == (code, [number])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_sigusr1_asks_for_a_save_and_the_driver_goes_on() -> None:
    told: list[str] = []
    board = SimpleNamespace(save=SimpleNamespace(remote=lambda: told.append("save")), stop=None)
    board.stop = SimpleNamespace(remote=told.append)
    with stopping_signals(board) as request:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)
    assert (told, request.signal) == (["save", "save"], None)


@pytest.mark.usefixtures("hangups")
def test_a_closed_terminal_is_one_signal_however_often_it_comes() -> None:
    """The terminal sends SIGHUP, and so does its shell."""
    told: list[int] = []
    board = SimpleNamespace(stop=SimpleNamespace(remote=told.append))
    with stopping_signals(board) as request:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
    assert (told, request.exit_code) == ([signal.SIGHUP], 129)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    with stopping_signals(board):
        os.kill(os.getpid(), signal.SIGHUP)
    assert told == [signal.SIGHUP]


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A local Ray that does what it is told instead of starting."""

    def use(init: Any) -> None:
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    return use


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_ray_s_sockets(starting: Any, monkeypatch: Any, name: str) -> None:
    starting(lambda **_: pytest.fail("Ray was started"))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/tmp/" + "x" * 60)
    with (
        pytest.raises(
            ConfigError, match=rf"^{name}=/tmp/x+: is too long.*RAY_TMPDIR to a folder of at most \d+"
        ),
        ray_session(Config()),
    ):
        pass
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    starting(lambda **_: None)
    with ray_session(Config()):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        TimeoutError("The current node timed out during startup"),
        RuntimeError("Failed to start GCS\nwith a log of many lines"),
        ValueError("ports"),
    ],
)
def test_a_ray_that_does_not_start_is_one_message(starting: Any, error: Exception) -> None:
    def init(**_: Any) -> None:
        raise error

    starting(init)
    message = "^Ray cannot be started on this machine: .*RAY_TMPDIR"
    with pytest.raises(ConfigError, match=message) as caught, ray_session(Config()):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ray ends its processes by their group")
def test_ray_s_processes_are_in_a_session_of_their_own(starting: Any) -> None:
    """A SIGTERM to the driver's group must not end Ray before its workers have saved."""
    sessions: list[int] = []
    popen = services.ConsolePopen

    def init(**_: Any) -> None:
        process = services.ConsolePopen(["sleep", "60"])
        sessions.append(os.getsid(process.pid))
        process.kill()
        process.wait()

    starting(init)
    with ray_session(Config()):
        pass
    assert sessions[0] != os.getsid(0)
    assert services.ConsolePopen is popen
