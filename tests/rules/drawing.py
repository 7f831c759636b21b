"""Draw the rooms and their arrows for docs/architecture.md, from the import graph."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .graph import REPO, Graph, floors, import_graph, rooms_in, source_files

DOCUMENT = REPO / "docs" / "architecture.md"


# The folders whose rooms are drawn; core is drawn as the rooms in it.
DRAWN = ("sam2vt", "sam2vt.core.data")
EXPANDED = frozenset({"sam2vt.core"})


def draw_rooms() -> str:
    """Return a drawing per folder: a room per line, the top one first, and the rooms right below it."""
    return "\n".join(["```", *(line for folder in DRAWN for line in _draw(folder)), "```"])


def _draw(folder: str) -> list[str]:
    rooms = rooms_in(import_graph(), folder, EXPANDED)
    floor = floors(rooms)
    order = sorted(rooms, key=lambda room: (-floor[room], room))
    # The ground floor is named by those above it.
    drawn = [room for room in order if rooms[room]]
    return [f"in {folder.replace('.', '/')}/", *(f"  {_line(room, folder, floor, rooms)}" for room in drawn)]


def draw_folders() -> str:
    """Return the package's folders as a tree, each with its docstring's first line."""
    files = source_files()
    folders = [name for name, file in files.items() if file.name == "__init__.py"]
    lines = [f"{_indented(name):<22} {_summary(files[name])}" for name in folders]
    return "\n".join(["```", *lines, "```"])


def parts(text: str) -> dict[str, str]:
    """Return the generated parts of a document: name -> what is between its two markers."""
    return dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", text, flags=re.DOTALL))


def write_drawing(figures: str) -> None:
    """Replace the folders, the drawing and the figures in docs/architecture.md."""
    text = DOCUMENT.read_text()
    generated = {"folders": draw_folders(), "rooms": draw_rooms(), "figures": figures}
    for name, content in generated.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{content}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    DOCUMENT.write_text(text)


def _line(room: str, folder: str, floor: dict[str, int], rooms: Graph) -> str:
    # Rooms that another one below imports follow from that one's line.
    below = sorted(rooms[room], key=lambda each: (-floor[each], each))
    direct = [each for each in below if not any(each in _reached(other, rooms) for other in below)]
    names = ", ".join(_short(each, folder) for each in direct)
    return f"{_short(room, folder):<18} -> {names}"


def _reached(room: str, rooms: Graph) -> set[str]:
    """Return all rooms below a room, itself left out."""
    found: set[str] = set()
    queue = list(rooms[room])
    while queue:
        each = queue.pop()
        if each not in found:
            found.add(each)
            queue.extend(rooms[each])
    return found


def _short(room: str, folder: str) -> str:
    """Return the path of a room below a folder, with a slash where it is a folder itself."""
    files = source_files()
    is_folder = room not in files or files[room].name == "__init__.py"
    return room.removeprefix(f"{folder}.").replace(".", "/") + ("/" if is_folder else ".py")


def _summary(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".")


def _indented(folder: str) -> str:
    return f"{'  ' * folder.count('.')}{folder.rpartition('.')[2]}/"
