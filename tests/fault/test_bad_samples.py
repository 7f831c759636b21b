"""Samples that spoil a run: a loss that is not finite, a video that breaks, a mask file that vanishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.sampling import sample_at
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.launch import fit
from sam2vt.distributed.source import find_clips
from sam2vt.errors import DataError, TrainingError
from tests.fault.limits import START_SECONDS
from tests.fault.runs import config_of, expected_clips, meanwhile, traced
from tests.fault.trace import Log, wait_until

pytestmark = pytest.mark.usefixtures("local_ray")

Figures = Callable[[str], None]
POISONED = 9  # step, counted from 1; steps are logged at 4, 8 and 12
BAD_ROW = 12  # the second epoch's first, of 24 in all; one clip of an epoch may always be bad


class Poison(L.Callback):
    """Makes the images of a batch of rank 1 NaN."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, _: int
    ) -> None:
        if trainer.global_step == POISONED - 1 and trainer.global_rank == 1:
            batch["images"] = torch.full(batch["images"].shape, float("nan"))
            self.note.write_text(f"{batch['video_id'][0]} frames {batch['frame_indices'][0]}")


def test_a_loss_that_is_not_finite(videos: Path, tmp_path: Path, figures: Figures) -> None:
    """The run stops at the next log step, names the clip and is not tried again."""
    log, note = Log(tmp_path / "trace"), tmp_path / "clip"
    config = config_of(videos, tmp_path / "run", "trainer.log_every_n_steps=4", "ray.max_failures=2")
    with pytest.raises(TrainingError) as caught:
        fit(config, traced(log.folder, Poison(note)))
    assert caught.value.exit_code == 3
    assert f"step {POISONED}: rank 1: loss nan on {note.read_text()}" in str(caught.value)
    [group] = log.groups()
    # Stopped within the step that is logged, before its end.
    assert group.steps == 11
    newest = CheckpointStore(str(tmp_path / "run" / "checkpoints")).newest()
    assert newest is not None
    assert newest.step == 8
    figures(f"bad update at step {POISONED}, stopped at step 12 with exit code 3, step 8 stays")


class Bad(NamedTuple):
    """The file that the clip of a row is made of, and how to spoil it and put it back."""

    video_id: str
    path: Path
    content: bytes

    def spoil(self) -> None:
        if self.path.suffix == ".mp4":
            self.path.write_bytes(self.content[:100])
        else:
            self.path.unlink()

    def restore(self) -> None:
        self.path.write_bytes(self.content)


def file_of(config: Config, row: int, kind: str) -> tuple[int, Bad]:
    """The first row from `row` on whose clip is made of such a file."""
    source = find_clips(config, run_storage(config))
    job, plan = source.job, source.plan
    while True:
        key = sample_at(plan.position(row), **job.sampling)
        clip = make_clip(job.records, key, job.spec)
        record = next(each for each in job.records if each.video_id == clip["video_id"])
        if (kind == "video") == (record.video_path is not None):
            annotation: Any = record.annotations[clip["frame_indices"][0]]
            path = Path(record.video_path or annotation.path)
            return row, Bad(clip["video_id"], path, path.read_bytes())
        row += 1


@pytest.fixture
def own_videos(tmp_path: Path) -> Path:
    write_sample_data(tmp_path / "videos", num_videos=2, num_frames=12, size=(48, 64))
    return tmp_path / "videos"


def test_a_file_that_breaks_ends_the_run(
    own_videos: Path, tmp_path: Path, figures: Figures, hold_decoders: Callable[..., Any]
) -> None:
    """The message names the file; the run is not tried again."""
    config = config_of(own_videos, tmp_path / "run", "ray.max_failures=2")
    row, bad = file_of(config, BAD_ROW, "mask")
    log, held = Log(tmp_path / "trace"), hold_decoders(row)

    def strike() -> None:
        wait_until(lambda: held.reached(row), START_SECONDS, "the decoder at its gate")
        bad.spoil()
        held.open(row)

    with meanwhile(strike, held), pytest.raises(DataError, match=bad.path.name) as caught:
        fit(config, traced(log.folder))
    assert caught.value.exit_code == 2
    [group] = log.groups()
    assert group.steps == row // 2
    figures(f"stopped before step {row // 2 + 1} with exit code 2, naming {bad.path.name}")


def test_a_bad_sample_in_quarantine(
    own_videos: Path, tmp_path: Path, figures: Figures, hold_decoders: Callable[..., Any]
) -> None:
    """All others are trained on, each once."""
    config = config_of(own_videos, tmp_path / "run", "on_bad_sample=quarantine")
    expected = expected_clips(config)
    row, bad = file_of(config, BAD_ROW, "mask")
    log, held = Log(tmp_path / "trace"), hold_decoders(row, row + 1)

    def strike() -> None:
        wait_until(lambda: held.reached(row), START_SECONDS, "the decoder at its first gate")
        bad.spoil()
        held.open(row)
        wait_until(lambda: held.reached(row + 1), 20, "the decoder at its second gate")
        bad.restore()
        held.open(row + 1)

    with meanwhile(strike, held):
        fit(config, traced(log.folder))
    lines = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    [said] = [json.loads(line) for line in lines]
    assert said["video_id"] == bad.video_id
    assert bad.path.name in said["error"]
    used = log.committed()
    total, missing = (sum(step.total() for step in steps.values()) for steps in (expected, used))
    assert total - missing == len(lines)
    assert {step for step in expected if expected[step] != used[step]} == {row // 2}
    figures(f"{missing} clips used + {len(lines)} in quarantine = {total}")
