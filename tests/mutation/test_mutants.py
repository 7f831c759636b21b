"""The faults that are put into modules."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutation import run
from tests.mutation.children import FAILED, PASSED, TIMED_OUT, Result
from tests.mutation.mutants import mutants
from tests.mutation.run import EQUIVALENT, KNOWN_BAD, MODULES, REPO

SOURCE = '''
"""A module."""
LIMIT = 3


def clip(value: int, most: int = 4) -> int:
    """Clip a value."""
    if value < 0 and not most:
        raise ValueError(f"negative: {value + 1}")
    return min(value, most)
'''


def test_a_seed_gives_the_same_mutants_and_each_is_one_change() -> None:
    whole = mutants(SOURCE, 100, seed=0)
    assert mutants(SOURCE, 4, seed=1) == mutants(SOURCE, 4, seed=1)
    assert {mutant.change for mutant in mutants(SOURCE, 4, seed=1)} <= {mutant.change for mutant in whole}
    assert {mutant.change for mutant in whole} == {
        "if value < 0 and (not most): -> if not (value < 0 and (not most)):",
        "if value < 0 and (not most): -> if value < 0 or not most:",
        "if value < 0 and (not most): -> if value <= 0 and (not most):",
        "if value < 0 and (not most): -> if value < 1 and (not most):",
        "if value < 0 and (not most): -> if value < -1 and (not most):",
        "if value < 0 and (not most): -> if value < 0 and most:",
        "return min(value, most) -> return None",
        "return min(value, most) -> return max(value, most)",
    }  # neither what a module or a signature says, nor the text of an error
    for mutant in whole:
        assert ast.unparse(ast.parse(SOURCE)) != mutant.source
        assert mutant.line in (8, 10)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests_that_mirror_it(module: str) -> None:
    assert (REPO / "sam2vt" / module).is_file()
    for name in MODULES[module]:
        assert (REPO / "tests/unit" / name).is_file(), name


def test_what_is_called_equivalent_is_still_there() -> None:
    for module, reasons in json.loads(EQUIVALENT.read_text()).items():
        tree = ast.parse((REPO / "sam2vt" / module).read_text())
        lines = {line.strip() for line in ast.unparse(tree).splitlines()}
        for change, reason in reasons.items():
            assert any(change.startswith(f"{line} -> ") for line in lines), (module, change)
            assert len(reason) > 10


MODULE = "core/data/masks/rle.py"


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., run.Outcome]:
    """Judge `SOURCE` by tests whose status is a function of the source and the number of the run."""
    target = tmp_path / "sam2vt" / MODULE
    target.parent.mkdir(parents=True)
    target.write_text(SOURCE)

    def judge(status: Callable[[str, int], int]) -> run.Outcome:
        class Scripted:
            runs = 0

            def __init__(self, *_: object) -> None: ...

            def __enter__(self) -> Scripted:
                return self

            def __exit__(self, *_: object) -> None: ...

            def run(self, module: Path, source: str, limit: float) -> Result:
                self.runs += 1
                return Result(status(source, self.runs), 0.0, "")

        monkeypatch.setattr(run, "Child", Scripted)
        return run.judge(MODULE, tmp_path, count=100, seed=0)

    return judge


def test_mutants_die_or_survive_or_run_for_ever(judged: Callable[..., run.Outcome]) -> None:
    def status(source: str, _: int) -> int:
        if "max(" in source or KNOWN_BAD in source:
            return FAILED
        return TIMED_OUT if "<=" in source else PASSED

    outcome = judged(status)
    assert (outcome.died, outcome.timed_out, len(outcome.survived)) == (2, 1, 6)
    assert outcome.share == 2 / 8


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (lambda source, number: FAILED, "fail without a mutant"),
        (lambda source, number: PASSED, "do not import the copy"),
        (lambda source, number: FAILED if number > 1 else PASSED, "unchanged but for its form"),
        (lambda source, number: PASSED if source == SOURCE else FAILED, "unchanged but for its form"),
        (lambda source, number: FAILED if KNOWN_BAD in source or number > 4 else PASSED, "after all mutants"),
    ],
)
def test_deaths_by_something_else_than_a_mutant_end_the_run(
    judged: Callable[..., run.Outcome], status: Callable[[str, int], int], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        judged(status)
