"""The faults that are put into modules."""

from __future__ import annotations

import ast
import json

import pytest

from tests.mutation.mutants import mutants
from tests.mutation.run import EQUIVALENT, MODULES, REPO

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
