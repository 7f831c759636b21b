"""Compute the importance of each swept setting from the trials that ran to their end."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sam2vt.distributed.sweep.report.labels import value_label
from sam2vt.distributed.sweep.results import SweepResult, Trial
from sam2vt.settings import is_number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 4
# The share of trials that count as the best. Optuna's default, a tenth, is two or three trials of a small
# sweep; in simulated sweeps of 24 to 96 trials, a third named the setting that decides more often.
TOP_SHARE = 1 / 3


def importance(result: SweepResult) -> dict[str, float]:
    """Return field -> its share of the importance of all (they sum to 1), the most important first.

    PED-ANOVA compares how the values of the best third are spread with those of all. Conditional settings
    count in the trials that have them; settings that never changed are left out. The result is empty if fewer
    than FEWEST_TRIALS ran to their end, or if nothing distinguishes the best.
    """
    trials = _usable(result)
    spaces = _distributions(trials, result)
    if len(trials) < FEWEST_TRIALS or not spaces:
        return {}
    found = _ped_anova(trials, spaces, result)
    total = sum(found.values())
    if not math.isfinite(total) or total <= 0:
        return {}
    order = sorted(spaces, key=lambda name: (-found[name], list(result.fields).index(name)))
    return {name: found[name] / total for name in order}


def _usable(result: SweepResult) -> list[Trial]:
    """Return the trials to compare; a value of zero has no place on a logarithmic scale."""
    return [
        trial
        for trial in result.ranked()
        if math.isfinite(trial.best(result.objectives[0]))
        and all(
            not is_number(value) or value > 0
            for name, value in result.values_of(trial).items()
            if name in result.log_fields
        )
    ]


def _distributions(trials: Sequence[Trial], result: SweepResult) -> dict[str, BaseDistribution]:
    """Return field -> the range that its values span, for fields with several values."""
    spaces = {}
    for name in result.fields:
        values = [v[name] for trial in trials if name in (v := result.values_of(trial))]
        if len({float(value) if is_number(value) else value_label(value) for value in values}) > 1:
            spaces[name] = _distribution(values, name in result.log_fields)
    return spaces


def _distribution(values: Iterable[Any], log: bool) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = list(values)
    if not all(map(is_number, values)):
        return CategoricalDistribution(sorted({value_label(value) for value in values}))
    if log or not all(isinstance(value, int) for value in values):
        return FloatDistribution(min(values), max(values), log=log)
    return IntDistribution(min(values), max(values))


def _ped_anova(
    trials: Sequence[Trial], spaces: Mapping[str, BaseDistribution], result: SweepResult
) -> dict[str, float]:
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective = result.objectives[0]
    study = optuna.create_study(direction="maximize" if objective.mode == "max" else "minimize")
    for trial in trials:
        values = {k: v for k, v in result.values_of(trial).items() if k in spaces}
        distributions = {name: spaces[name] for name in values}
        categories = [name for name in values if isinstance(spaces[name], CategoricalDistribution)]
        params = {**values, **{name: value_label(values[name]) for name in categories}}
        study.add_trial(create_trial(value=trial.best(objective), params=params, distributions=distributions))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal trials, which come out as zeros
        return evaluator.evaluate(study, list(spaces))
