"""Check YAML files of unknown origin before Hydra or OmegaConf reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_MOST_NODES = 20_000  # a network of SAM 2's has about 200, a run's configuration 300
_DEEPEST = 100


def check_extent(content: bytes) -> None:
    """Raise ValueError for a YAML that is nested too deeply, has too many nodes, or has a key twice.

    Aliases of aliases grow without end. Raises yaml.YAMLError for what is no YAML.
    """
    depth = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):  # the composer would overflow the C stack
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    waiting, count = [yaml.compose(content, Loader=yaml.CSafeLoader)], 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if count > _MOST_NODES:
            raise ValueError(f"it has more than {_MOST_NODES} values, once its aliases are written out")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        if isinstance(node, yaml.CollectionNode):
            pairs = node.value if isinstance(node, yaml.MappingNode) else [node.value]
            waiting += [each for pair in pairs for each in pair]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: {key.value} is given twice")
            seen.add(key.value)


def experiment_fault(file: Path) -> str | None:
    """Return why a file of settings cannot be read by Hydra, or must not be; None if nothing is wrong."""
    try:
        text = file.read_text(encoding="utf-8")
        check_extent(text.encode())
        content = yaml.safe_load(text)
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (yaml.YAMLError, ValueError) as error:
        return f"cannot be read as YAML: {_shown(error)}"
    if not isinstance(content, (dict, type(None))):
        return f"holds a {type(content).__name__}; needed is a mapping of settings"
    if _sets_hydra(text, content or {}):
        return "has settings of Hydra's, which can run code; take them out of the file"
    return None


def _shown(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f"line {mark.line + 1}: "
    return f"{place}{getattr(error, 'problem', None) or str(error).partition(chr(10))[0]}"


def _sets_hydra(text: str, content: dict[Any, Any]) -> bool:
    """Return whether an experiment's file could set Hydra's own options, which can name functions."""
    packages = re.findall(r"^\s*#\s*@package\s+(\S+)", text, re.MULTILINE)
    return "hydra" in content or "hydra" in f"{packages}{content.get('defaults')}"
