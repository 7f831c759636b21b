"""The rooms of core/data: their order, and which of them do without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import sam2vt.core.data

ROOT = Path(sam2vt.core.data.__file__).parent
# A room imports from its own row and the rows above it.
ORDER = (
    ("json_files", "workers"),
    ("records",),
    ("packed",),
    ("frames",),
    ("masks",),
    ("formats",),
    ("clips",),
    ("checking", "writing"),
    ("opening", "videos", "dataset"),
)
WITHOUT_TORCH = ("records", "packed", "frames", "masks", "formats", "checking", "writing")


def test_each_room_imports_only_from_those_before_it() -> None:
    floors = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
    assert {path.stem for path in ROOT.iterdir() if path.stem[0] != "_"} == floors.keys()
    wrong = []
    for file in ROOT.rglob("*.py"):
        room = file.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sam2vt.core.data."):
                other = str(node.module).split(".")[3]
                if room in floors and floors[other] > floors[room]:
                    wrong.append(f"{file}:{node.lineno}: {room} imports {other}")
    assert wrong == []


def test_decoding_needs_no_torch() -> None:
    modules = [
        ".".join(("sam2vt.core.data", *file.relative_to(ROOT).with_suffix("").parts))
        for room in WITHOUT_TORCH
        for file in (ROOT / room).rglob("*.py")
    ]
    code = f"import sys, importlib\nfor each in {modules + ['sam2vt.core.data.opening']}:\n"
    code += "    importlib.import_module(each)\nimport sam2vt.core.data.clips.drawing\n"
    code += "print({'torch', 'torchvision', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
