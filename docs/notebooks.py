"""Write notebooks as pages of the site: `python docs/notebooks.py build/pages`, as `make docs` calls it.

Zensical knows Markdown alone. Links to a notebook then lead to its page.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

PICTURES = {"image/png": "png", "image/jpeg": "jpg"}


def write_pages(folder: Path) -> None:
    """Write a page beside each notebook below the folder, and change the links to it."""
    for notebook in sorted(folder.rglob("*.ipynb")):
        notebook.with_suffix(".md").write_text(page(notebook))
        for other in folder.rglob("*.md"):
            text = other.read_text()
            if (name := f"{notebook.name})") in text:
                other.write_text(text.replace(name, f"{notebook.stem}.md)"))


def page(notebook: Path) -> str:
    """Return a notebook as Markdown; its pictures are written beside it."""
    parts = []
    for cell in json.loads(notebook.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            picture = notebook.with_name(f"{notebook.stem}_{len(parts)}")
            parts.append(_shown(output, picture))
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any], picture: Path) -> str:
    """Return an output as Markdown: a picture, else its text."""
    data = output.get("data", {})
    for kind, ending in PICTURES.items():
        if kind in data:
            file = picture.with_suffix(f".{ending}")
            file.write_bytes(base64.b64decode("".join(data[kind])))
            return f"![output]({file.name})"
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```\n{text.rstrip()}\n```"


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
