"""Freed memory stays with the process: counted in pages that the system fills with zeros."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sam2vt.core.model import sam2
from sam2vt.core.model.speedups import heap
from sam2vt.core.model.speedups.heap import keeps_freed_memory

MEGABYTES = 96  # above glibc's largest block of the heap
PAGE = 4096

# Takes and frees blocks of a step's sizes; prints the pages that the third round took anew.
ROUNDS = f"""
import resource, sys
import torch
from sam2vt.core.model.speedups.heap import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones({MEGABYTES} << 18 - shrink) for shrink in range(6)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's own settings")


def pages(*arguments: str, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", ROUNDS, *arguments]
    done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    return int(done.stdout)


@on_linux
def test_memory_that_was_freed_is_not_taken_anew() -> None:
    assert pages("keep") < 100
    assert pages() > MEGABYTES * 2**20 // PAGE / 600  # huge pages may stand for 512 each


@on_linux
def test_what_the_environment_sets_stays() -> None:
    assert pages("keep", MALLOC_MMAP_THRESHOLD_="131072") > 100


@pytest.mark.parametrize(
    ("name", "value", "is_kept"),
    [
        ("MALLOC_ARENA_MAX", "1", True),
        ("MALLOC_TRIM_THRESHOLD_", "131072", False),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=9", False),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=4", True),
    ],
)
@on_linux
def test_a_user_of_glibcs_own_settings_keeps_them(monkeypatch, name: str, value: str, is_kept: bool) -> None:
    for each in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(each)
    monkeypatch.setenv(name, value)
    assert keeps_freed_memory() == is_kept


def test_a_libc_without_the_switch_keeps_nothing(monkeypatch) -> None:
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())  # as musl's
    assert not heap.keeps_freed_memory()
    heap.keep_freed_memory()


@pytest.mark.parametrize(("speedups", "calls"), [("auto", 1), ("none", 0)])
def test_a_model_on_a_cpu_asks_for_it(monkeypatch, speedups: str, calls: int) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(sam2, "keep_freed_memory", lambda: asked.append(True))
    sam2.SAM2Model(None, "network/sam2.1_nano.yaml", speedups=speedups, device="cpu", image_size=64).load()
    assert len(asked) == calls
