from __future__ import annotations

import math

from sam2vt.distributed.sweep.results import (
    DONE,
    FAILED,
    JF,
    STOPPED,
    Objective,
    SweepResult,
    Trial,
    trial_name,
    trial_number,
)

SCORE, SPEED = Objective(JF, "max"), Objective("seconds_per_step", "min")


def trial(number: int, *scores: float, status: str = DONE, speed: float = 1.0) -> Trial:
    rows = [{"step": 10 * i, JF: score, "seconds_per_step": speed} for i, score in enumerate(scores, 1)]
    return Trial(number, {}, status, rows=rows)


def result(*trials: Trial, objectives: tuple[Objective, ...] = (SCORE,)) -> SweepResult:
    return SweepResult("a", trials, objectives, ("optimizer.lr",))


def test_a_trial_counts_by_its_best_validation_after_a_step() -> None:
    before = Trial(1, {}, DONE, rows=[{"step": 0, JF: 0.9}, {"step": 5, JF: 0.3}, {"step": 9, JF: 0.2}])
    assert before.best(SCORE) == 0.3
    assert math.isnan(Trial(1, {}, DONE).best(SCORE))
    assert math.isnan(trial(1, math.nan).best(SCORE))
    assert trial(1, 0.1, 0.2, speed=3.0).best(SPEED) == 3.0


def test_the_best_row_is_the_first_after_a_step_that_has_the_best_value() -> None:
    rows = [{"step": step, JF: score} for step, score in ((0, 0.3), (5, 0.2), (9, 0.3), (12, 0.3))]
    assert Trial(1, {}, DONE, rows=rows).best_row(SCORE) is rows[2]
    assert Trial(1, {}, DONE, rows=rows).best_row(SPEED) == {}
    assert Trial(1, {}, DONE, rows=rows[:1]).best_row(SCORE) == {}
    assert Trial(1, {}, DONE).best_row(SCORE) == {}
    assert trial(1, math.nan).best_row(SCORE) == {}
    assert trial(1, math.nan, 0.1).best_row(SCORE)["step"] == 20


def test_only_trials_that_ran_to_their_end_can_be_best() -> None:
    found = result(trial(0, 0.2), trial(1, 0.8, status=STOPPED), trial(2, 0.9, status=FAILED), trial(3, 0.5))
    assert [each.number for each in found.ranked()] == [3, 0]
    assert found.best is not None
    assert found.best.number == 3
    assert result(trial(1, 0.8, status=STOPPED)).best is None


def test_of_equals_the_earliest_is_best() -> None:
    assert [each.number for each in result(trial(0, 0.5), trial(1, 0.5)).ranked()] == [0, 1]


def test_the_lowest_is_best_where_the_objective_says_so() -> None:
    found = result(trial(0, 0.5, speed=2.0), trial(1, 0.5, speed=1.0), objectives=(SPEED,))
    assert [each.number for each in found.ranked()] == [1, 0]


def test_the_pareto_front_leaves_out_what_another_beats_in_everything() -> None:
    trials = (trial(0, 0.5, speed=1.0), trial(1, 0.7, speed=2.0), trial(2, 0.6, speed=3.0))
    found = result(*trials, objectives=(SCORE, SPEED))
    assert [each.number for each in found.pareto()] == [1, 0]


def test_names_and_numbers() -> None:
    assert trial_name(7) == "trial_007"
    assert [trial_number(trial_name(n)) for n in (0, 7, 1234)] == [0, 7, 1234]
