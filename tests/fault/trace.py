"""What each rank trained on, step by step: written by a callback in the workers, read by a test."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L

OPEN = "gate-open"


def fingerprints(batch: Mapping[str, Any]) -> list[str]:
    """A name for each clip of a batch that follows from all that is trained on; none for a blank clip."""
    found = []
    for i, video in enumerate(batch["video_id"]):
        objects = batch["num_objects"][i]
        if not batch["valid_masks"][i].any():
            continue
        tensors = [batch["images"][i], batch["masks"][i, :, :objects], batch["valid_masks"][i, :, :objects]]
        words = [video, batch["frame_indices"][i], batch["object_ids"][i]]
        for prompt in batch["prompts"][i]:
            words.append([prompt["type"], prompt.get("frame_index", 0), prompt.get("object_index", 0)])
            tensors += [prompt[name] for name in ("point_coords", "point_labels", "mask") if name in prompt]
        digest = hashlib.sha1(json.dumps(words).encode())
        for tensor in tensors:
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        found.append(f"{video}-{digest.hexdigest()[:12]}")
    return found


class Trace(L.Callback):
    """Writes a line to a file of this rank and group of workers at the start and end of each step.

    Before the step `gate` all ranks wait until the folder holds the file `gate-open`, so that a test can
    strike while it knows where the run stands. Until then each batch takes `pace` seconds more.
    """

    def __init__(self, folder: Path, gate: int | None = None, pace: float = 0.0) -> None:
        self.folder, self.gate, self.pace = folder, gate, pace
        self.file: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        import ray

        group = trainer.strategy.broadcast(f"{time.time():.3f}-{os.getpid()}")
        rank, node = trainer.global_rank, ray.get_runtime_context().get_node_id()
        self.file = (self.folder / f"{group}-{rank}.jsonl").open("a", buffering=1)
        self._write(pid=os.getpid(), node=node, world=trainer.world_size, first=trainer.global_step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not (self.folder / OPEN).exists():
            time.sleep(self.pace)
            if trainer.global_step == self.gate:
                self._wait()
        self._write(step=trainer.global_step, clips=fingerprints(batch))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._write(done=trainer.global_step, loss=float(outputs["loss"]))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if self.file is not None:
            self._write(error=f"{type(exception).__name__}: {exception}")

    def _wait(self) -> None:
        self._write(waits=self.gate)
        while not (self.folder / OPEN).exists():
            time.sleep(0.02)

    def _write(self, **values: Any) -> None:
        self.file.write(json.dumps({"time": time.time(), **values}) + "\n")


@dataclass
class Group:
    """One group of workers, from its start to its end, however it ended."""

    name: str
    ranks: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def began(self) -> float:
        return float(self.name.partition("-")[0])

    @property
    def world(self) -> int:
        return self.ranks[min(self.ranks)][0]["world"]

    @property
    def first(self) -> int:
        """Steps done before this group's first one."""
        return self.ranks[min(self.ranks)][0]["first"]

    @property
    def steps(self) -> int:
        """Steps done after its last one: what one rank has finished, all have taken part in."""
        done = (line["done"] for lines in self.ranks.values() for line in lines if "done" in line)
        return max(done, default=self.first)

    def pid(self, rank: int) -> int:
        return self.ranks[rank][0]["pid"]

    def node(self, rank: int) -> str:
        return self.ranks[rank][0]["node"]

    def waiting(self) -> bool:
        """Whether every rank waits at the gate."""
        return len(self.ranks) == self.world and all("waits" in lines[-1] for lines in self.ranks.values())

    def clips(self, step: int) -> Counter[str]:
        """What all ranks together trained on at a step, counted from 0."""
        lines = [line for lines in self.ranks.values() for line in lines if line.get("step") == step]
        return Counter(clip for line in lines for clip in line["clips"])

    def has_done(self, steps: int) -> bool:
        return self.steps >= self.first + steps

    def next_done(self, after: float) -> float:
        """Seconds from a time to the end of rank 0's next batch; infinite where there is none."""
        times = (line["time"] for line in self.ranks[0] if "done" in line and line["time"] > after)
        return min(times, default=math.inf) - after


class Log:
    """What a `Trace` has written into a folder so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def groups(self) -> list[Group]:
        """The oldest first."""
        found: dict[str, Group] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            name, _, rank = path.stem.rpartition("-")
            lines = [
                json.loads(line) for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"
            ]
            if lines:
                found.setdefault(name, Group(name)).ranks[int(rank)] = lines
        return sorted((group for group in found.values() if 0 in group.ranks), key=lambda group: group.began)

    def open_all(self) -> None:
        (self.folder / OPEN).touch()

    def committed(self) -> dict[int, Counter[str]]:
        """The clips of each step of the way to the final weights: a later group replaces what it repeats."""
        way: dict[int, Counter[str]] = {}
        for group in self.groups():
            way = {step: clips for step, clips in way.items() if step < group.first}
            way.update({step: group.clips(step) for step in range(group.first, group.steps)})
        return way

    def repeats(self) -> list[int]:
        """For each group after the first, the steps that had been done and were done again."""
        furthest, repeats = 0, []
        for group in self.groups():
            repeats.append(max(0, furthest - group.first))
            furthest = max(group.first, group.steps)
        return repeats[1:]

    def repeated(self) -> int:
        return sum(self.repeats())

    def seconds_until_a_step(self, after: float) -> float:
        """From a time to the end of the next step that was finished."""
        return min(group.next_done(after) for group in self.groups())


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `true` returns once that counts as true; AssertionError after `seconds`."""
    until = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < until, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return value
