"""Run tests on a changed module in forks of one process that has loaded the heavy libraries once."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

PASSED, FAILED, TIMED_OUT = 0, 1, 2
NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # half of a short run's time
OURS = ("sam2vt", "tests")
OUTPUT, LOADED = Path("output.log"), Path("loaded.txt")  # in the copy


class Result(NamedTuple):
    """How the tests ended."""

    status: int
    seconds: float
    output: str


class Child:
    """A process in a copy of the repository that forks once per run."""

    def __init__(self, copy: Path, module: str, tests: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", **NO_PLUGINS}
        changing = f"sam2vt.{module.removesuffix('.py').replace('/', '.')}"
        command = [sys.executable, "-m", "tests.mutation.children", changing, *tests]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=copy, env=environment, stdin=pipe, stdout=pipe, text=True
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, module: Path, source: str, limit: float) -> Result:
        """Write a module's source and run the tests for at most `limit` seconds."""
        module.write_text(source)
        for compiled in module.parent.glob(f"__pycache__/{module.stem}.*.pyc"):
            compiled.unlink()  # a changed source of the same second and size would be taken for this
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(limit, file=self._process.stdin, flush=True)
        return Result(*json.loads(self._process.stdout.readline()))


def serve(changing: str, tests: list[str]) -> None:
    """Run the tests once per line of stdin, which is the limit in seconds, and print a `Result` each."""
    import lightning  # noqa: F401  what every run would load, and no mutant changes
    import numpy  # noqa: F401
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    for number, line in enumerate(sys.stdin):
        result = _run(tests, float(line))
        if number == 0:
            _load_libraries()
            _load_what_stays(changing)
            gc.freeze()  # hypothesis collects thrice per run, for seconds each over all that is loaded
        print(json.dumps(result), file=answers, flush=True)


def _load_libraries() -> None:
    """Import what the first run has loaded, but nothing of this repository: two thirds of a run's time."""
    for name in LOADED.read_text().split():
        if name.partition(".")[0] not in OURS:
            with suppress(ImportError):  # a name that no import gives, such as pytest's own for conftest.py
                importlib.import_module(name)


class _Block:
    """Refuses to import the module that will change; what imports it then stays out as well."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> None:
        """Raise ImportError for the module."""
        if name == self._name:
            raise ImportError(name)


def _load_what_stays(changing: str) -> None:
    """Import what the first run has loaded of the package and does not import the module `changing`."""
    block = _Block(changing)
    sys.meta_path.insert(0, block)
    names = [name for name in LOADED.read_text().split() if name.startswith("sam2vt.")]
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)
    sys.meta_path.remove(block)
    # A package that failed leaves modules behind, which would not be its attributes once it is imported.
    for name in sorted(name for name in sys.modules if name.startswith("sam2vt.")):
        if name.rpartition(".")[0] not in sys.modules:
            del sys.modules[name]


def _run(tests: list[str], limit: float) -> Result:
    output, began = OUTPUT, time.monotonic()
    pid = os.fork()
    if pid == 0:
        _test(tests, output)
    while time.monotonic() - began < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = PASSED if os.waitstatus_to_exitcode(status) == 0 else FAILED
            return Result(code, time.monotonic() - began, output.read_text(errors="replace"))
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return Result(TIMED_OUT, limit, output.read_text(errors="replace"))


def _test(tests: list[str], output: Path) -> None:
    """Run the tests in this process, which ends with them."""
    import pytest

    os.setsid()  # so that what a test starts ends with it
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = 3
    try:
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", "-m", "not cluster"]
        status = int(pytest.main([*options, *tests]))
        LOADED.write_text("\n".join(sys.modules))
    finally:
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
