"""Garbage is not collected while packages are imported, and is again afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from sam2vt.imports import importing


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def test_nothing_is_collected_within_and_again_after() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_import_that_fails_leaves_it_as_it_was() -> None:
    with pytest.raises(ImportError), importing():
        import sam2vt.no_such_module  # noqa: F401
    assert gc.isenabled()


def test_who_had_it_off_keeps_it_off() -> None:
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()
