from __future__ import annotations

from pathlib import Path

from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep.results import DONE, FAILED, JF, RUNNING, STOPPED, Objective, SweepResult, Trial
from sam2vt.distributed.sweep.watch import remove_leftovers, remove_weights_in_transit

STATUS = {0: DONE, 1: DONE, 2: STOPPED, 3: FAILED, 4: RUNNING, 5: DONE}
SCORE = {0: 0.1, 1: 0.5, 2: 0.9, 3: 0.9, 4: 0.9, 5: 0.4}
FILES = (
    "checkpoints/best.ckpt",
    "export/sam2.pt",
    "ray/attempt_1/x",
    "records/train.parquet",
    "inherited.ckpt",
)
LIGHT = ("results.csv", "overlays/a.png")


def swept(root: Path) -> SweepResult:
    for number in STATUS:
        for name in (*FILES, *LIGHT):
            file = root / "trials" / f"trial_{number:03d}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    trials = [Trial(n, {}, STATUS[n], rows=[{"step": 1, JF: SCORE[n]}]) for n in STATUS]
    return SweepResult("a", trials, (Objective(JF, "max"),), ())


def kept(root: Path, name: str) -> set[int]:
    return {n for n in STATUS if (root / "trials" / f"trial_{n:03d}" / name).exists()}


def test_weights_of_the_best_and_of_the_default_are_kept(tmp_path: Path) -> None:
    result, storage = swept(tmp_path), RunStorage(str(tmp_path))
    assert remove_leftovers(result, storage, keep_best=1) > 0
    assert kept(tmp_path, "checkpoints/best.ckpt") == kept(tmp_path, "export/sam2.pt") == {0, 1, 4}
    for name in FILES[2:]:
        assert kept(tmp_path, name) == {4}  # which still runs
    for name in LIGHT:
        assert kept(tmp_path, name) == set(STATUS)
    assert remove_leftovers(result, storage, keep_best=1) == 0


def test_more_of_the_best_can_be_kept(tmp_path: Path) -> None:
    remove_leftovers(swept(tmp_path), RunStorage(str(tmp_path)), keep_best=2)
    assert kept(tmp_path, "checkpoints/best.ckpt") == {0, 1, 4, 5}


def test_weights_that_trials_handed_to_each_other_go(tmp_path: Path) -> None:
    for name in ("tune/trial_001/checkpoint_000000/weights.ckpt", "tune/trial_001/result.json"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    remove_weights_in_transit(RunStorage(str(tmp_path)), "tune")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["result.json"]
