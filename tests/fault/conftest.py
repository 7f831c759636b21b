"""Small videos, a Ray of this machine, an undisturbed run, and the table of what each fault cost."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fault.limits import LIMIT_SECONDS

os.environ.setdefault("OMP_NUM_THREADS", "1")

REPO = Path(__file__).resolve().parents[2]
FIGURE = "figure"  # the property of a report that holds a line of the table


class Reference(NamedTuple):
    """A run that nobody disturbed."""

    clips: dict[int, Counter[str]]  # of each step
    state: dict[str, Any]  # its last checkpoint
    rows: list[dict[str, str]]  # of results.csv
    run: Path


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints what a fault cost, and keeps it for the table at the end of the session."""

    def add(text: str) -> None:
        request.node.user_properties.append((FIGURE, text))  # which reach the process that prints them
        print(text)

    return add


def pytest_itemcollected(item: pytest.Item) -> None:
    """What the limit below cannot end, such as a fixture, ends the session."""
    item.add_marker(pytest.mark.timeout(3 * LIMIT_SECONDS, method="thread"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Ends a case that takes too long. `ray.get` lets go for a KeyboardInterrupt alone."""
    late = False

    def interrupt(*_: object) -> None:
        nonlocal late
        late = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        return (yield)
    except KeyboardInterrupt:
        if not late:
            raise
        pytest.fail(f"took longer than {LIMIT_SECONDS} s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of what each fault cost."""
    ended = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [
        (report.nodeid.rpartition("::")[2].removeprefix("test_"), text)
        for report in ended
        if report.when == "call"
        for name, text in report.user_properties
        if name == FIGURE
    ]
    if lines:
        width = max(len(name) for name, _ in lines)
        terminalreporter.section("what each fault cost")
        for name, text in lines:
            terminalreporter.write_line(f"{name:<{width}}  {text}")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of twelve frames of 48 x 64 pixels."""
    from sam2vt.core.data.writing.sample_data import write_sample_data

    folder = tmp_path_factory.mktemp("data") / "videos"
    write_sample_data(folder, num_videos=2, num_frames=12, size=(48, 64))
    return folder


@pytest.fixture(scope="module")
def tests_for_workers() -> Iterator[None]:
    """Lets the workers of a Ray that is started now import what these tests hand to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPO))
        yield


@pytest.fixture(scope="module")
def local_ray(tests_for_workers: None) -> Iterator[None]:
    """A Ray of four logical CPUs."""
    import ray

    from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, sigterm_as_before

    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    with pytest.MonkeyPatch.context() as patch, sigterm_as_before():
        for name, value in LOCAL_ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(address="local", num_cpus=4, object_store_memory=150 << 20, **quiet)
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def reference(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The undisturbed run on two workers, on the Ray that is running or one of its own."""
    from sam2vt.core.training.callbacks.averaging import TRAINED
    from sam2vt.distributed.launch import fit
    from tests.fault import runs
    from tests.fault.trace import Log

    folder = tmp_path_factory.mktemp("reference")
    config, log = runs.config_of(videos, folder / "run", *runs.WHOLE), Log(folder / "trace")
    clips = runs.expected_clips(config)
    assert max(Counter(name for step in clips.values() for name in step).values()) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPO))
        fit(config, runs.traced(log.folder))
    assert log.committed() == clips
    rows = runs.final_rows(folder / "run")
    assert [int(row["step"]) for row in rows] == [0, runs.STEPS_AN_EPOCH, runs.STEPS]
    state = runs.final_state(folder / "run")
    assert any(not each.equal(state["state_dict"][name]) for name, each in state[TRAINED].items())
    return Reference(clips, state, rows, folder / "run")


@pytest.fixture
def hold_decoders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Makes the decoders of this test's runs wait at rows."""
    from sam2vt.distributed import launch
    from tests.fault.holding import Held

    def hold(*rows: int) -> Held:
        held = Held(tmp_path / "held", *rows)
        monkeypatch.setattr(launch, "NextStream", held.stream)
        return held

    return hold
