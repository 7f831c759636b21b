from __future__ import annotations

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from sam2vt.config import Config, RayConfig
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
    told: list[bool] = []
    board = SimpleNamespace(stop=SimpleNamespace(remote=lambda: told.append(True)))
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as end, stopping_signals(board) as request:  # noqa: PT012
        assert request.signal is None
        os.kill(os.getpid(), number)
        assert (told, request.signal, request.exit_code) == ([True], number, code)
        with pytest.raises(KeyboardInterrupt):  # for which alone `ray.get` lets go
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt
    assert (end.value.code, told) == (code, [True])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
