from __future__ import annotations

import csv
import logging

from sam2vt.config import Config
from sam2vt.core.evaluation.jf import ObjectScore
from sam2vt.core.training.callbacks.results_csv import ScoresCsv
from sam2vt.core.training.validation import ValidationSet


def score(video: str, j: float) -> ObjectScore:
    return ObjectScore(video, 1, {"J": j, "F": j, "J&F": j}, 4)


def test_rows_of_the_last_validation_beside_the_baseline(fit, one_weight, tmp_path, caplog) -> None:
    module = one_weight()
    scores, held = [score("a", 0.5), score("b", 0.25)], [score("a", 0.125), score("b", 0.375)]
    module.val_sets = [
        ValidationSet("", Config(), scores=scores, hold_first=held),
        ValidationSet("davis", Config(), scores=[score("c", 0.75)]),
    ]
    path = tmp_path / "val_scores.csv"
    with caplog.at_level(logging.INFO):
        fit(module, [ScoresCsv(path)])
    rows = {row["video"]: row for row in csv.DictReader(path.open())}
    assert (rows["a"]["J"], rows["a"]["J_hold_first"]) == ("0.5", "0.125")
    assert (rows["all"]["J"], rows["all"]["J_hold_first"]) == ("0.375", "0.25")
    assert "the last validation:\nvideo" in caplog.text
    (row, _) = csv.DictReader((tmp_path / "val_scores-davis.csv").open())
    assert (row["video"], row["J"]) == ("c", "0.75")
    assert "the last validation on davis:\nvideo" in caplog.text


def test_nothing_is_written_without_scores(fit, one_weight, tmp_path) -> None:
    module = one_weight()
    module.val_sets = [ValidationSet("", Config()), ValidationSet("davis", Config())]
    fit(module, [ScoresCsv(tmp_path / "val_scores.csv")])
    assert not list(tmp_path.glob("val_scores*"))
