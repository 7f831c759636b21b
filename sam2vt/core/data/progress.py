"""A progress bar on a terminal, and none elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], total: int, unit: str, done: int = 0) -> Iterator[Item]:
    """The items as they come; `done` of the total were there before."""
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit=unit, initial=done, leave=False)
