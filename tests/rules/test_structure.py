"""The rooms, and the arrows between them: no circles, one direction, heavy packages in their rooms."""

from __future__ import annotations

import ast
from pathlib import Path

from .drawing import DOCUMENT, draw_folders, draw_rooms, parts
from .graph import REPO, circles, folders_of, import_graph, imports, rooms_in, source_files
from .measure import GOALS, measure

FILES = source_files()

# From the ground up. A module imports from its own row and the rows above it in this list.
FLOORS = (
    ("sam2vt.errors", "sam2vt.imports", "sam2vt.health"),
    ("sam2vt.settings", "sam2vt.data_config", "sam2vt.config", "sam2vt.logs"),
    ("sam2vt.core.types",),
    ("sam2vt.core.storage",),
    ("sam2vt.configuration",),
    ("sam2vt.core.data", "sam2vt.core.model"),
    ("sam2vt.core.evaluation",),
    ("sam2vt.core.training",),
    ("sam2vt.core.prediction",),
    ("sam2vt.composing", "sam2vt.run_folder", "sam2vt.run_summary", "sam2vt.train"),
    ("sam2vt.distributed",),
    ("sam2vt.commands",),
    ("sam2vt.cli", "sam2vt.__main__", "ray_jobs"),
)
# Rooms of one floor that must not know each other: they meet in core.types.
STRANGERS = (("sam2vt.core.data", "sam2vt.core.model"),)
# Packages that only these files or folders may import.
ONLY_IN = {
    "ray": ("sam2vt/distributed/", "ray_jobs/"),
    "sam2": ("sam2vt/core/model/",),
    "training": (),  # SAM 2's own trainer: the oracle of tests
    "av": (
        "sam2vt/core/data/frames/",
        "sam2vt/core/data/writing/",
        "sam2vt/core/prediction/",
    ),
    "torchcodec": (),
    "hydra": ("sam2vt/train.py", "sam2vt/composing.py", "sam2vt/cli.py", "ray_jobs/", "sam2vt/core/model/"),
}
# They extend SAM 2's classes, and are themselves imported only when a network is built.
IMPORTED_LATE = tuple(
    f"sam2vt.core.model.{name}"
    for name in (
        *("encoder_blocks", "tracking.memory_layers"),
        *(f"speedups.{each}" for each in ("dropout", "fixed_weights", "narrow_memory", "windows")),
    )
)


def floor_of(module: str) -> int | None:
    for floor, rooms in enumerate(FLOORS):
        if any(_is_in(module, room) for room in rooms):
            return floor
    return None


def _is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def _path(name: str) -> str:
    return FILES[name].relative_to(REPO).as_posix()


def test_every_file_is_on_a_floor() -> None:
    assert len(FILES) > 100
    assert {name for name in FILES if floor_of(name) is None} <= {"sam2vt", "sam2vt.core"}


def test_no_module_imports_itself_through_others() -> None:
    assert circles(import_graph()) == []


def test_no_room_imports_itself_through_others() -> None:
    graph = import_graph()
    found = {folder: circles(rooms_in(graph, folder)) for folder in folders_of(graph)}
    assert {folder: each for folder, each in found.items() if each} == {}


def test_arrows_run_down() -> None:
    wrong = []
    for name, imported in import_graph().items():
        for other in imported:
            own, its = floor_of(name), floor_of(other)
            if own is not None and its is not None and its > own:
                wrong.append(f"{_path(name)} imports {other} of a floor above")
    assert wrong == []


def test_strangers_do_not_know_each_other() -> None:
    graph = import_graph()
    for pair in STRANGERS:
        for one, other in (pair, pair[::-1]):
            wrong = [
                n for n, found in graph.items() if _is_in(n, one) and any(_is_in(f, other) for f in found)
            ]
            assert wrong == [], f"{one} must not import {other}"


def test_heavy_packages_stay_in_their_rooms() -> None:
    wrong = []
    for name, file in FILES.items():
        for line, each, _ in imports(name, file):
            allowed = ONLY_IN.get(each.split(".")[0])
            if allowed is not None and not _path(name).startswith(allowed):
                wrong.append(f"{_path(name)}:{line}: {each} belongs to {allowed}")
    assert wrong == []


def test_hydra_and_sam2_are_imported_only_when_needed() -> None:
    """Importing `sam2` initialises Hydra's global state, which `hydra.main` then refuses."""
    assert set(IMPORTED_LATE) <= FILES.keys()
    wrong = []
    for name, file in FILES.items():
        for line, each, at_import in imports(name, file):
            late = each.split(".")[0] in ("sam2", "hydra") or each in IMPORTED_LATE
            if at_import and late and name not in IMPORTED_LATE:
                wrong.append(f"{_path(name)}:{line}: import {each} in a function")
    assert wrong == []


def test_nothing_works_at_import_time() -> None:
    wrong = [f"{_path(name)}:{line}: {text}" for name, file in FILES.items() for line, text in _work(file)]
    assert wrong == []


def _work(file: Path) -> list[tuple[int, str]]:
    """Statements that do more than define, and definitions that read the environment."""
    definitions = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
    found = []
    for node in ast.parse(file.read_text()).body:
        text = ast.unparse(node)
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "__name__ == '__main__'",
        )
        reads = isinstance(node, (ast.Assign, ast.AnnAssign)) and (
            "os.environ" in text or "os.getenv" in text
        )
        if reads or not (is_docstring or is_guard or isinstance(node, definitions)):
            found.append((node.lineno, text[:80]))
    return found


def test_the_drawing_is_the_house() -> None:
    text = DOCUMENT.read_text()
    assert len(text.splitlines()) <= 110
    drawn = parts(text)
    assert drawn["rooms"] == draw_rooms(), "run `python -m tests.rules.measure --write`"
    assert drawn["folders"] == draw_folders(), "run `python -m tests.rules.measure --write`"


def test_the_figures_keep_their_bounds() -> None:
    values = measure()
    missed = [f"{goal.name}: {values[goal.name]:g}" for goal in GOALS if not goal.is_met(values[goal.name])]
    assert missed == []
