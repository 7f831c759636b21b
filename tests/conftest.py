"""Fixtures that every test may use."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# Where `make setup` installs transformers and PEFT: in every process that finds them, Lightning imports them.
APART = Path(sys.prefix) / "oracles"

# A shell lets its background jobs ignore Ctrl-C, and so would all that these tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("SAM2VT_TEST_DATA") or REPO.parent / "shared" / "data")
    if not folder.is_dir():
        if os.environ.get("SAM2VT_REQUIRE_TEST_DATA") == "1":
            pytest.fail(f"real clips are required but {folder} does not exist")
        pytest.skip(f"real clips are not at {folder}; set SAM2VT_TEST_DATA to where they are")
    return folder


@pytest.fixture(scope="module")
def apart() -> Iterator[None]:
    """Let tests find transformers and PEFT, which need Python 3.11 in the versions of constraints.txt."""
    if sys.version_info < (3, 11):
        pytest.skip("transformers and PEFT are not installed for this Python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(APART)])
        yield


@pytest.fixture(scope="module")
def peft(apart: None) -> None:
    """Let tests add adapters."""
    importlib.import_module("peft")


@pytest.fixture
def hangups() -> Iterator[None]:
    """Let SIGHUP reach this process and those that it starts, even if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep out of the user's home what sweeps note there, also those of processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
