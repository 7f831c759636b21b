"""The import graph of the repository: every import counts, lazy ones and those under TYPE_CHECKING too.

The verbs of the command line count as imported by it: it imports them by their names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from sam2vt.cli import VERBS

REPO = Path(__file__).resolve().parents[2]

Graph = dict[str, set[str]]  # module or room -> the ones it imports


def source_files(root: Path = REPO) -> dict[str, Path]:
    """Return dotted module name -> file of the package and of ray_jobs; the linked YAML folder is none."""
    found = [*(root / "sam2vt").rglob("*.py"), *(root / "ray_jobs").rglob("*.py")]
    return {_module(file, root): file for file in sorted(found) if not _is_linked(file, root)}


def imports(name: str, file: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, imported name, whether importing the file imports it) of every import in a file.

    `from a import b` yields "a" and "a.b": b may be a module.
    """
    tree = ast.parse(file.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        for each in names:
            yield node.lineno, each, id(node) not in inside


def import_graph(root: Path = REPO) -> Graph:
    """Return the modules that each module imports, itself and its own packages' faces left out."""
    files = source_files(root)
    graph: Graph = {}
    for name, file in files.items():
        found = {each for _, each, _ in imports(name, file) if each in files and each != name}
        # `from a import b` means the module a.b where there is one, and a's face only otherwise.
        graph[name] = {each for each in found if not _is_face_of_another(each, found, files)}
    verbs = {f"sam2vt.commands.{verb.replace('-', '_')}" for verb in VERBS}
    graph["sam2vt.cli"] |= verbs & files.keys()
    return graph


def rooms_in(graph: Graph, folder: str, expand: frozenset[str] = frozenset()) -> Graph:
    """Return the rooms right below a folder and the rooms that each imports.

    A room is a file or a whole folder; a folder in `expand` stands for the rooms in it.
    """
    rooms: Graph = {}
    for module, imported in graph.items():
        own = _room(module, folder, expand)
        if own is not None:
            others = {_room(each, folder, expand) for each in imported}
            rooms.setdefault(own, set()).update(each for each in others if each not in (None, own))
    return rooms


def _room(module: str, folder: str, expand: frozenset[str]) -> str | None:
    if not module.startswith(f"{folder}."):
        return None
    room = f"{folder}.{module.removeprefix(f'{folder}.').split('.')[0]}"
    if room in expand:
        return None if module == room else _room(module, room, expand)
    return room


def folders_of(graph: Graph) -> list[str]:
    """Return every folder of the package that holds files or folders."""
    return sorted({module.rpartition(".")[0] for module in graph if module.startswith("sam2vt.")})


def circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def floors(graph: Graph) -> dict[str, int]:
    """Return the floor of each node of a graph without circles: one above all that it imports."""
    known: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in known:
            known[node] = 1 + max((floor(other) for other in graph.get(node, ())), default=0)
        return known[node]

    return {node: floor(node) for node in graph}


def _module(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_linked(file: Path, root: Path) -> bool:
    return any(parent.is_symlink() for parent in file.parents if root in parent.parents)


def _is_face_of_another(name: str, found: set[str], files: Mapping[str, Path]) -> bool:
    is_face = files[name].name == "__init__.py"
    return is_face and any(each.startswith(f"{name}.") for each in found)
