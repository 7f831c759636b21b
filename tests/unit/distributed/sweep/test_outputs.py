from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config, to_dict
from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep.outputs import experiment, trials_csv, write_outputs
from sam2vt.distributed.sweep.results import DONE, FAILED, JF, Objective, SweepResult, Trial

SweepOf = Callable[..., Sweep]
VALUES = {"optimizer.lr": 3e-4, "loss.dice_weight": 2.0}


def result(folder: Path) -> SweepResult:
    rows = [{"step": 10, JF: 0.4, "val/J": 0.5}, {"step": 20, JF: 0.3, "val/J": 0.9}]
    trials = [
        Trial(0, {}, DONE, rows=[{"step": 20, JF: 0.2}], folder=str(folder / "trials" / "trial_000")),
        Trial(1, VALUES, DONE, rows=rows, seconds=12.34, folder=str(folder / "trials" / "trial_001")),
        Trial(2, VALUES, FAILED, 'said "no", then\nended', folder=str(folder / "trials" / "trial_002")),
    ]
    defaults = {"optimizer.lr": 1e-3, "loss.dice_weight": 1.0}
    return SweepResult("a", trials, (Objective(JF, "max"),), tuple(VALUES), defaults=defaults)


def test_a_row_a_trial_with_its_best_validation(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(trials_csv(result(tmp_path)))))
    assert [row["status"] for row in rows] == [DONE, DONE, FAILED]
    assert (rows[1][JF], rows[1]["val/J"], rows[1]["steps"], rows[1]["seconds"]) == (
        "0.4",
        "0.5",
        "20",
        "12.3",
    )
    assert rows[0]["optimizer.lr"] == "0.001"
    assert rows[2]["reason"] == 'said "no", then\nended'


def test_what_is_left_can_be_trained_again(sweep_of: SweepOf, tmp_path: Path) -> None:
    """`best/experiment.yaml` is the trial's whole configuration, whatever the defaults become."""
    sweep, swept = sweep_of("ray.local_cpus=6"), tmp_path / "sweep"
    for number in range(2):
        for name in ("checkpoints/best.ckpt", "overlays/a.png"):
            file = swept / "trials" / f"trial_00{number}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"weights" if "ckpt" in name else b"\x89PNG")
    write_outputs(result(swept), sweep, RunStorage(str(swept)))
    assert (swept / "best" / "best.ckpt").read_bytes() == b"weights"
    assert "trial_001" in (swept / "sweep.html").read_text()
    again = load_config(
        compose_config(
            [f"experiment={swept / 'best' / 'experiment.yaml'}", f"output_dir={tmp_path / 'again'}"]
        )
    )
    known = to_dict(sweep.base.config(VALUES))
    for section in ("model", "dataset", "valdataset", "loss", "optimizer", "scheduler", "trainer"):
        assert to_dict(again)[section] == known[section]
    assert again.ray.num_workers == known["ray"]["num_workers"]
    assert again.ray.local_cpus == 6
    assert again.output_dir == str(tmp_path / "again")


def test_places_are_not_part_of_it(sweep_of: SweepOf) -> None:
    content = experiment(sweep_of(), VALUES)
    assert content["optimizer"]["lr"] == 3e-4
    assert not {"output_dir", "save_dir", "resume"} & content.keys()
    assert not {"address", "storage_path", "name"} & content["ray"].keys()
