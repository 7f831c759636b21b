"""Where a run is killed to see it resume exactly; and runs on this machine that are, a process each.

`python -m tests.fault.kill_points` imports what a training needs once and then forks a run for each line of
JSON on stdin, {"overrides": [...], "kill": [point, folder] or null, "log": path}; it answers with the
process's exit status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import lightning as L
import torch

from sam2vt.core.storage.folder import Folder
from sam2vt.core.training import callbacks
from tests.fault import storage

# The point, and the last step that is done there; a run of `tests.fault.runs` saves after 4, 6, 8 and 12.
POINTS = {
    "first step": 1,
    "mid-epoch": 9,
    "last step of an epoch": 6,
    "in validation": 6,
    "in a checkpoint write, the state": 8,
    "in a checkpoint write, the upload": 8,
    "in a checkpoint write, the manifest": 8,
    "last step": 12,
}
# The step of the newest complete checkpoint there; 0: none.
SAVED = {
    "first step": 0,
    "mid-epoch": 8,
    "last step of an epoch": 4,
    "in validation": 4,
    "in a checkpoint write, the state": 6,
    "in a checkpoint write, the upload": 6,
    "in a checkpoint write, the manifest": 6,
    "last step": 8,
}


class KillAt(L.Callback):
    """Ends the process of `rank` with SIGKILL at a point of the run, once: `folder` remembers.

    `install` makes a training of this process contain it.
    """

    def __init__(self, point: str, folder: Path, rank: int = 0) -> None:
        self.point, self.folder, self.rank = point, folder, rank
        self.step = POINTS[point]

    def install(self) -> None:
        add_callback(self)
        if self.rank == 0 and "checkpoint write" in self.point:
            self._patch_writing()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        steps = ("first step", "mid-epoch", "last step of an epoch", "last step")
        if self.point in steps and self._is_here(trainer):
            self.kill()

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.point == "in validation" and dataloader_idx == 1 and self._is_here(trainer):
            self.kill()  # between the clips and the whole videos

    def kill(self) -> None:
        marker = self.folder / "killed"
        if not marker.exists():
            marker.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_here(self, trainer: L.Trainer) -> bool:
        return trainer.global_step == self.step and trainer.global_rank == self.rank

    def _patch_writing(self) -> None:
        save, write, stem = torch.save, Folder.write, f"step_{self.step:08d}"

        def half(state: Any, path: Any, *arguments: Any, **named: Any) -> None:
            save(state, path, *arguments, **named)
            if stem in str(path) and not (self.folder / "killed").exists():
                os.truncate(path, os.path.getsize(path) // 2)
                self.kill()

        def none(folder: Folder, name: str, content: bytes) -> None:
            if stem in name:
                self.kill()
            write(folder, name, content)

        def part(path: str) -> Any:
            first = f"{stem}.ckpt" in path and not (self.folder / "killed").exists()
            return storage.Sink(path, 1 << 19, self.kill) if first else None

        if self.point.endswith("the state"):
            torch.save = half
        elif self.point.endswith("the upload"):
            storage.inject(part)()
        else:
            Folder.write = none  # type: ignore[method-assign]


class NoteRecovery(L.Callback):
    """Writes down when a resumed run is again where the first was killed."""

    def __init__(self, step: int, folder: Path) -> None:
        self.step, self.folder = step, folder

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            (self.folder / "recovered").write_text(str(time.time()))


def add_callback(callback: L.Callback) -> None:
    """Puts it before the default callbacks of every training of this process."""
    default = callbacks.default_callbacks

    def with_callback(*arguments: Any, **named: Any) -> list[L.Callback]:
        return [callback, *default(*arguments, **named)]

    callbacks.default_callbacks = with_callback


def run(job: dict[str, Any]) -> None:
    """In a process of its own: `sam2vt train` with these overrides."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job["kill"]:
        point, folder = job["kill"]
        KillAt(point, Path(folder)).install()
    elif job["note"]:
        step, folder = job["note"]
        add_callback(NoteRecovery(step, Path(folder)))
    from sam2vt.train import main as train

    train(job["overrides"])


def main() -> None:
    import hydra  # noqa: F401
    import sam2.modeling.sam2_base  # noqa: F401
    from hydra.core.global_hydra import GlobalHydra

    import sam2vt.core.training.trainer  # noqa: F401

    GlobalHydra.instance().clear()
    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            code = 1
            try:
                run(json.loads(line))
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                sys.stdout.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
