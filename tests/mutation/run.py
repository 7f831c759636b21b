"""Put seeded faults into modules of a copy, and run the tests that mirror them: `make mutate`.

    python -m tests.mutation.run [--only position loss] [--count 40] [--seed 0] [--out RECORD.md]

Each fault must make a test fail. A fault that changes nothing that can be seen is listed with its reason in
`equivalent.json`. Exit status 1 if in a module fewer than 95% of the others are noticed.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from queue import Queue

from benchmarks.machine import machine, versions

from .children import FAILED, PASSED, TIMED_OUT, Child, Result
from .mutants import Mutant, mutants

REPO = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.json")
COPIED = ("sam2vt", "tests", "configs", "ray_jobs", "pyproject.toml")
GOAL = 0.95
KNOWN_BAD = 'raise RuntimeError("a mutant that every test must notice")\n'
MODEL, TRAINING, DATA = "core/model/", "core/training/", "core/data/"

# A module below sam2vt/, and the files below tests/unit/ that mirror it.
MODULES = {
    TRAINING + "checkpoints/position.py": (
        TRAINING + "checkpoints/test_counters.py",
        TRAINING + "checkpoints/test_position.py",
    ),
    MODEL + "tracking/memory.py": (MODEL + "tracking/test_memory.py",),
    MODEL + "tracking/frame_call.py": (MODEL + "tracking/test_frame_call.py",),
    TRAINING + "loss_terms/entries.py": (TRAINING + "loss_terms/test_entries.py",),
    TRAINING + "optim.py": (TRAINING + "test_optim_edges.py", TRAINING + "test_optim.py"),
    TRAINING + "preflight.py": (TRAINING + "test_preflight_limits.py",),
    "distributed/cluster/preflight.py": (
        "distributed/cluster/test_preflight_limits.py",
        "distributed/cluster/test_preflight.py",
    ),
    TRAINING + "loss.py": (TRAINING + "test_loss_by_hand.py", TRAINING + "test_loss.py"),
    "core/evaluation/jf.py": ("core/evaluation/test_jf.py", "core/evaluation/test_identity.py"),
    "distributed/stream/plan.py": ("distributed/stream/test_plan.py",),
    TRAINING + "checkpoints/store.py": (
        TRAINING + "checkpoints/test_store_choices.py",
        TRAINING + "checkpoints/test_store.py",
    ),
    DATA + "records/splits.py": (DATA + "records/test_splits.py",),
    DATA + "clips/content.py": (DATA + "clips/test_windows.py", DATA + "clips/test_content.py"),
    DATA + "clips/prompts.py": (DATA + "clips/test_prompts.py",),
    DATA + "masks/rle.py": (DATA + "masks/test_rle.py",),
}


@dataclass
class Outcome:
    """What became of the mutants of one module."""

    module: str
    died: int = 0
    timed_out: int = 0  # of those that died
    equivalent: list[tuple[Mutant, str]] = field(default_factory=list)  # with the reason
    survived: list[Mutant] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """The share that died of those that can be noticed."""
        return self.died / max(self.died + len(self.survived), 1)


def judge(module: str, copy: Path, count: int, seed: int) -> Outcome:
    """Run the mirrored tests on each mutant of one module."""
    began = time.monotonic()
    target, outcome = copy / "sam2vt" / module, Outcome(module)
    source, reasons = target.read_text(), json.loads(EQUIVALENT.read_text()).get(module, {})
    tests = [f"tests/unit/{name}" for name in MODULES[module]]
    with Child(copy, module, tests) as child:

        def passed(text: str, when: str, limit: float) -> Result:
            result = child.run(target, text, limit)
            if result.status != PASSED:
                sys.exit(f"{module}: {', '.join(tests)} fail {when}\n{result.output[-3000:]}")
            return result

        limit = 10 + 3 * passed(source, "without a mutant", 300).seconds
        if child.run(target, source + KNOWN_BAD, limit).status != FAILED:
            sys.exit(f"{module}: its tests pass on a module that raises; they do not import the copy")
        # Later runs start with more loaded than the first, and comments are gone: neither may be fatal.
        passed(ast.unparse(ast.parse(source)), "on the module unchanged but for its form", limit)
        for mutant in mutants(source, count, seed):
            if mutant.change in reasons:
                outcome.equivalent.append((mutant, reasons[mutant.change]))
                continue
            status = child.run(target, mutant.source, limit).status
            if status == PASSED:
                outcome.survived.append(mutant)
                print(f"{module}:{mutant.line} {mutant.change} survived", file=sys.stderr, flush=True)
            else:
                outcome.died += 1
                outcome.timed_out += status == TIMED_OUT  # an endless loop is noticed, too
        passed(source, "without a mutant, after all mutants", limit)
    target.write_text(source)
    outcome.seconds = time.monotonic() - began
    print(f"{module}: {outcome.died} died, {len(outcome.survived)} survived", file=sys.stderr, flush=True)
    return outcome


def judge_all(modules: list[str], count: int, seed: int, jobs: int) -> list[Outcome]:
    """Judge modules side by side, each job in a copy of its own."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(jobs):
            copies.put(_copy(Path(folder) / str(number)))

        def one(module: str) -> Outcome:
            copy = copies.get()
            try:
                return judge(module, copy, count, seed)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, modules))


def _copy(folder: Path) -> Path:
    """Copy what the tests need, compiled: only the changed module is compiled for a mutant."""
    for name in COPIED:
        source, target = REPO / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    compileall.compile_dir(folder, quiet=2)
    return folder


def record(outcomes: list[Outcome], drawn: str, took: str) -> Iterator[str]:
    """Yield the lines of the record."""
    yield f"# Faults that the tests notice, {date.today():%B %Y}"
    yield ""
    yield f"Machine: {machine()}; {versions()}; {date.today().isoformat()}."
    yield f"`make mutate`: {drawn}; {took}."
    yield f"Goal: at least {GOAL:.0%} of the mutants that are not equivalent are noticed."
    yield ""
    yield "| module | noticed | by a time limit | survived | equivalent | noticed, % | s |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for each in outcomes:
        yield f"| `{each.module}` | {_cells(each)} |"
    yield f"| all | {_cells(_total(outcomes))} |"
    for title, found in (
        ("Survived", [(e.module, m, "") for e in outcomes for m in e.survived]),
        ("Equivalent", [(e.module, m, f": {why}") for e in outcomes for m, why in e.equivalent]),
    ):
        if found:
            yield from ("", f"## {title}", "")
            yield from (f"- `{module}:{mutant.line}` `{mutant.change}`{why}" for module, mutant, why in found)


def _total(outcomes: list[Outcome]) -> Outcome:
    total = Outcome("all")
    for each in outcomes:
        total.died += each.died
        total.timed_out += each.timed_out
        total.survived += each.survived
        total.equivalent += each.equivalent
        total.seconds += each.seconds
    return total


def _cells(outcome: Outcome) -> str:
    counts = (outcome.died, outcome.timed_out, len(outcome.survived), len(outcome.equivalent))
    return " | ".join([*map(str, counts), f"{100 * outcome.share:.1f}", f"{outcome.seconds:.0f}"])


def main() -> None:
    """Print the record; exit with 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="modules whose path holds one of these")
    parser.add_argument("--count", type=int, default=40, help="mutants per module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="modules side by side")
    parser.add_argument("--out", type=Path, help="write the record here too")
    options = parser.parse_args()
    chosen = [module for module in MODULES if any(part in module for part in options.only)]
    began = time.monotonic()
    outcomes = judge_all(chosen, options.count, options.seed, options.jobs)
    minutes, used = (time.monotonic() - began) / 60, resource.getrusage(resource.RUSAGE_CHILDREN)
    drawn = f"up to {options.count} mutants per module, seed {options.seed}"
    cpu = (used.ru_utime + used.ru_stime) / 60
    took = f"{minutes:.0f} minutes, {options.jobs} modules at a time, {cpu:.0f} minutes of CPU time"
    text = "\n".join(record(outcomes, drawn, took)) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    sys.exit(int(any(each.share < GOAL for each in outcomes)))


if __name__ == "__main__":
    main()
