"""Draw the rooms and their arrows for docs/architecture.md, from the import graph."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .graph import REPO, Graph, floors, import_graph, room_graph, source_files

DOCUMENT = REPO / "docs" / "architecture.md"


def draw_rooms() -> str:
    """Return one line per room, the top floor first: floor, room and the rooms right below it."""
    rooms = room_graph(import_graph())
    floor = floors(rooms)
    order = sorted(rooms, key=lambda room: (-floor[room], room))
    return "\n".join(["```", *(_line(room, floor, rooms) for room in order), "```"])


def draw_folders() -> str:
    """Return the package's folders as a tree, each with the first line of its docstring."""
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
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        text = re.sub(pattern, lambda match, new=content: match[1] + new + match[2], text, flags=re.DOTALL)
    DOCUMENT.write_text(text)


def _line(room: str, floor: dict[str, int], rooms: Graph) -> str:
    # Only the highest rooms below: the others follow from their own lines.
    below = sorted(rooms[room], key=lambda each: (-floor[each], each))
    direct = [each for each in below if not any(each in _reached(other, rooms) for other in below)]
    names = ", ".join(_short(each) for each in direct)
    return (
        f"{floor[room]:>2}  {_short(room):<28} -> {names}" if names else f"{floor[room]:>2}  {_short(room)}"
    )


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


def _short(room: str) -> str:
    """Return a room's path below the package, with a slash where it is a folder."""
    files = source_files()
    is_folder = room not in files or files[room].name == "__init__.py"
    return room.removeprefix("sam2vt.").replace(".", "/") + ("/" if is_folder else ".py")


def _summary(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".")


def _indented(folder: str) -> str:
    return f"{'  ' * folder.count('.')}{folder.rpartition('.')[2]}/"
