"""Import heavy packages without a search for garbage among what they leave."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Keep Python from collecting garbage while the block imports.

    Torch, Lightning and SAM 2 make half a million objects that stay. Looking through them again and again is
    a fifth of the time of their import, in each process that trains.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
