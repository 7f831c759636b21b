"""The arrows between the rooms run one way, heavy packages stay where they belong, imports do no work."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FILES = sorted([*(REPO / "sam2vt").rglob("*.py"), *(REPO / "ray_jobs").rglob("*.py")])

# A room and how high it lies; a room imports from lower ones and from itself.
ROOMS = {
    "sam2vt.errors": 0,
    "sam2vt.config": 1,
    "sam2vt.core.types": 1.5,
    "sam2vt.core.storage": 2,
    "sam2vt.core.data": 3,
    "sam2vt.core.model": 3,
    "sam2vt.core.evaluation": 4,
    "sam2vt.core.training": 5,
    "sam2vt.train": 6,
    "sam2vt.distributed": 7,
    "sam2vt.cli": 8,
    "ray_jobs": 8,
}
SAME_ROOM = {
    "sam2vt.configuration": "sam2vt.config",
    "sam2vt.composing": "sam2vt.train",
    "sam2vt.commands": "sam2vt.train",
}
# Packages that only these files or folders may import.
ONLY_IN = {
    "ray": ("sam2vt/distributed/", "ray_jobs/"),
    "sam2": ("sam2vt/core/model/",),
    "training": (),
    "av": (
        "sam2vt/core/data/frames/containers.py",
        "sam2vt/core/data/frames/video.py",
        "sam2vt/core/data/writing/video_file.py",
    ),
    "torchcodec": ("sam2vt/core/data/frames/video.py",),
    "hydra": ("sam2vt/train.py", "sam2vt/composing.py", "sam2vt/cli.py", "ray_jobs/", "sam2vt/core/model/"),
}
# They extend SAM 2's classes, and are themselves imported only when a network is built.
IMPORTED_LATE = tuple(
    f"sam2vt.core.model.{name}"
    for name in ("speedups.image_encoder", "tracking.memory_layers", "replacements")
)


def module_of(file: Path) -> str:
    parts = file.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, imported module, whether importing the file imports it) of all imports in a file."""
    tree = ast.parse(file.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    package = module_of(file) if file.name == "__init__.py" else module_of(file).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            # `from sam2vt.core import data` imports a room although the origin is none.
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield node.lineno, name, id(node) not in inside


def room_of(module: str) -> str | None:
    for prefix in sorted([*ROOMS, *SAME_ROOM], key=len, reverse=True):
        if module == prefix or module.startswith(f"{prefix}."):
            return SAME_ROOM.get(prefix, prefix)
    return None


def test_there_are_files_and_every_one_lies_in_a_room() -> None:
    assert len(FILES) > 10
    homeless = [module_of(file) for file in FILES if room_of(module_of(file)) is None]
    assert set(homeless) <= {"sam2vt", "sam2vt.core", "sam2vt.commands"}


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_arrows_run_one_way(file: Path) -> None:
    own = room_of(module_of(file))
    for line, name, _ in imports(file):
        other = room_of(name)
        if own is None or other is None or own == other:
            continue
        assert ROOMS[other] < ROOMS[own], f"{file}:{line}: {own} must not import {name}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_heavy_packages_stay_where_they_belong(file: Path) -> None:
    path = file.relative_to(REPO).as_posix()
    for line, name, _ in imports(file):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or path.startswith(allowed), f"{path}:{line}: {name} belongs to {allowed}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_hydra_and_sam2_are_imported_only_when_needed(file: Path) -> None:
    """Importing `sam2` initialises Hydra's global state, which `hydra.main` then refuses."""
    late = module_of(file) in IMPORTED_LATE
    for line, name, at_import in imports(file):
        if at_import and not late:
            assert name.split(".")[0] not in ("sam2", "hydra"), f"{file}:{line}: {name}"
            assert name not in IMPORTED_LATE, f"{file}:{line}: {name} imports sam2; import it in a function"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_nothing_works_at_import_time(file: Path) -> None:
    body = ast.parse(file.read_text()).body
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            continue
        assert isinstance(node, allowed), f"{file}:{node.lineno}: {ast.unparse(node)[:80]}"
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            value = ast.unparse(node)
            assert "os.environ" not in value, f"{file}:{node.lineno}: reads the environment at import"
            assert "os.getenv" not in value, f"{file}:{node.lineno}: reads the environment at import"
