"""Decoders that wait at a row, so that a test can strike while it knows what is decoded."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray

from sam2vt.distributed.stream.start import NextStream, Stream


@dataclass(frozen=True)
class HeldStream(Stream):
    """A stream whose decoders wait before each of `rows` until `folder` holds the file `open-ROW`."""

    folder: Path = Path()
    rows: tuple[int, ...] = ()

    def dataset(self, world_size: int) -> Any:
        """Called in the process that makes the data set for a group of workers."""
        from sam2vt.distributed.stream import decode

        if not hasattr(decode.ClipDecoder, "held"):
            decode.ClipDecoder = _held(decode.ClipDecoder, self.folder, self.rows)  # type: ignore[misc]
        return super().dataset(world_size)


@dataclass(frozen=True)
class NextHeldStream(NextStream):
    """Decides like `NextStream` where the next group of workers begins; gives it a `HeldStream`."""

    folder: Path = Path()
    rows: tuple[int, ...] = ()

    def __call__(self) -> HeldStream:
        return HeldStream(**vars(super().__call__()), folder=self.folder, rows=self.rows)


def _held(decoder: type, folder: Path, held_rows: tuple[int, ...]) -> type:
    class HeldDecoder(decoder):  # type: ignore[misc]
        held = True

        def __call__(self, batch: Any) -> Any:
            rows = [self.division.row_of_slot(int(number) + self.first_slot) for number in batch["id"]]
            for row in held_rows:
                if max(rows) >= row:
                    _wait(folder, row)
            return super().__call__(batch)

    return HeldDecoder


def _wait(folder: Path, row: int) -> None:
    node = ray.get_runtime_context().get_node_id()
    (folder / f"{row}-{os.getpid()}-{node}.reached").touch()
    while not (folder / f"open-{row}").exists():
        time.sleep(0.02)


class Held:
    """The gates of the decoders of a test, and what takes the place of `NextStream`."""

    def __init__(self, folder: Path, *rows: int) -> None:
        self.folder, self.rows = folder, rows
        folder.mkdir(parents=True)
        self.stream = partial(NextHeldStream, folder=folder, rows=rows)

    def reached(self, row: int) -> list[tuple[int, str]]:
        """Process and node of each decoder that waits or has waited before `row`."""
        names = [path.stem.split("-") for path in sorted(self.folder.glob(f"{row}-*.reached"))]
        return [(int(pid), node) for _, pid, node in names]

    def open(self, row: int) -> None:
        (self.folder / f"open-{row}").touch()

    def open_all(self) -> None:
        for row in self.rows:
            self.open(row)
