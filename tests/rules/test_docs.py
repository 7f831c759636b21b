"""The documentation names only what exists: modules, files, anchors, verbs, settings and choices."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sam2vt import cli
from sam2vt.config import Config, SweepConfig

REPO = Path(__file__).resolve().parents[2]
PAGES = [
    *(REPO / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((REPO / "docs").glob("*.md")),
    *sorted((REPO / "docs").glob("*.ipynb")),
    REPO / "benchmarks" / "README.md",
    REPO / "benchmarks" / "LOG.md",
]
CONFIGS = REPO / "configs"

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))


def code(page: Path) -> str:
    """Code blocks and inline code of a page, one piece per line."""
    text = page.read_text()
    blocks = re.findall(r"^ *```.*?^ *```", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S))
    return "\n".join([*blocks, *inline])


def test_every_page_is_in_the_navigation() -> None:
    nav = (REPO / "mkdocs.yml").read_text().partition("\nnav:")[2]
    # `make docs` makes a page of each notebook.
    assert set(re.findall(r"docs/([\w-]+)\.md", nav)) == {
        page.stem for ending in ("md", "ipynb") for page in (REPO / "docs").glob(f"*.{ending}")
    }


@pages
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert not missing


@cache
def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_files_exist(page: Path) -> None:
    """A path is relative to the repository, the package or the page; a bare name may be in any folder."""
    named = set(re.findall(r"(?<![\w/<*.{-])((?:[\w-]+/)*[\w-]+\.(?:py|sh|toml))\b", code(page)))
    roots = (REPO, REPO / "sam2vt", page.parent)
    assert not {
        name
        for name in named
        if not any((root / name).exists() for root in roots)
        and not ("/" not in name and name in file_names())
    }


@cache
def file_names() -> set[str]:
    folders = ("sam2vt", "benchmarks", "tests", "ray_jobs")
    return {file.name for folder in folders for file in (REPO / folder).rglob("*.py")}


@pages
def test_modules_exist(page: Path) -> None:
    """Of `sam2vt.a.b.Name` the module a.b exists and defines Name."""
    missing = set()
    for dotted in set(re.findall(r"(?<![\w./-])sam2vt(?:\.[A-Za-z_]\w*)+", code(page))):
        path, names = REPO / "sam2vt", dotted.split(".")[1:]
        while names and (path / names[0]).is_dir():
            path /= names.pop(0)
        file = (
            path / f"{names.pop(0)}.py"
            if names and (path / f"{names[0]}.py").exists()
            else path / "__init__.py"
        )
        if names and not re.search(rf"\b{names[0]}\b", file.read_text()):
            missing.add(dotted)
    assert not missing


@pages
def test_verbs_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    known = set(re.findall(r"^ {2,}([a-z-]+)", capsys.readouterr().out, re.M))
    used = set(re.findall(r"(?:^|[\s/|])(?<!from )sam2vt ([a-z][a-z-]*)\b", code(page)))
    assert not used - known


@pages
def test_settings_exist(page: Path) -> None:
    """Every override `a.b=value` names a setting, and every `group=choice` a file of configs/."""
    text = code(page)
    dotted = re.findall(r"(?<![\w./@-])[+~]{0,2}([a-z_]+(?:\.[a-z_]+)+)=", text)
    assert not {name for name in dotted if not is_setting(name)}
    chosen = re.findall(r"(?<![\w./-])([a-z]+(?:/[a-z]+)?)=([\w]+)(?=[\s`'\"]|$)", text, re.M)
    assert not {
        f"{group}={choice}"
        for group, choice in chosen
        if (CONFIGS / group).is_dir() and not (CONFIGS / group / f"{choice}.yaml").is_file()
    }


def is_setting(name: str) -> bool:
    name = name.removeprefix("sweep.space.")
    node: Any = {"sweep": SweepConfig()}.get(name.split(".")[0], Config())
    names = name.removeprefix("sweep.").split(".")
    for each in names:
        if not is_dataclass(node) or not hasattr(node, each):
            return isinstance(node, dict)
        node = getattr(node, each)
    return True
