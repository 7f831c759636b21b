"""Build schedulers, by which trials stop early or copy weights; the unswept trial always runs to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from sam2vt.configuration.sweep import Sweep
from sam2vt.configuration.sweep_space import Space
from sam2vt.distributed.sweep.results import DEFAULT, trial_name
from sam2vt.distributed.sweep.trial import OBJECTIVE_KEYS

PROGRESS = "progress"  # the share of its run that a trial has done
_ALMOST = 1e-6  # a rung at 0.25 must be reached by a run at 0.2499999


def build_scheduler(sweep: Sweep, mode: str) -> TrialScheduler:
    """Return the scheduler that follows the first objective; `mode` is max or min."""
    build = _SCHEDULERS[sweep.settings.scheduler]
    return build(sweep, time_attr=PROGRESS, metric=OBJECTIVE_KEYS[0], mode=mode)


def is_default(trial: TuneTrial) -> bool:
    """Return whether this is the trial of the unswept configuration."""
    return trial.custom_trial_name == trial_name(DEFAULT)


class RunsDefault:
    """Mixin of a scheduler: it stops neither the default trial nor one that has done all its steps."""

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Return Tune's decision for a trial after a validation."""
        if result[PROGRESS] >= 1:  # the run still draws and exports
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]
        ends = decision == TrialScheduler.STOP
        return TrialScheduler.CONTINUE if ends and is_default(trial) else decision


class Asha(RunsDefault, ASHAScheduler):
    """ASHA: at each rung (`grace`, then `reduction` times as far) the best share continues."""


class Median(RunsDefault, MedianStoppingRule):
    """Median stopping: a trial stops that is worse than the median of the others' means at its step."""


class Population(RunsDefault, PopulationBasedTraining):
    """PBT: the worst trials copy the weights of the best, and values near theirs."""

    def _checkpoint_or_exploit(
        self, trial: TuneTrial, tune_controller: Any, upper_quantile: Any, lower_quantile: Any
    ) -> None:
        exploiting = [each for each in lower_quantile if not is_default(each)]
        super()._checkpoint_or_exploit(trial, tune_controller, upper_quantile, exploiting)


def _asha(sweep: Sweep, **common: Any) -> TrialScheduler:
    settings = sweep.settings
    grace: Any = settings.grace - _ALMOST  # Tune declares a whole number, and any does
    return Asha(**common, max_t=1, grace_period=grace, reduction_factor=settings.reduction)


def _median(sweep: Sweep, **common: Any) -> TrialScheduler:
    return Median(**common, grace_period=sweep.settings.grace)


def _population(sweep: Sweep, **common: Any) -> TrialScheduler:
    settings = sweep.settings
    # PBT draws donors, factors and fresh values from the global random states.
    random.seed(settings.seed)
    np.random.seed(settings.seed)
    return Population(
        **common,
        perturbation_interval=settings.perturb_every - _ALMOST,
        hyperparam_mutations={"point": {"values": mutations(sweep.space)}},
        quantile_fraction=settings.quantile,
        custom_explore_fn=Clip(sweep.space),
        log_config=False,
        synch=True,  # the result does not depend on which trial is faster
    )


def mutations(space: Space) -> dict[str, Any]:
    """Return the distribution of each setting, for values that are drawn anew instead of moved up or down."""
    draw = {"uniform": tune.uniform, "log_uniform": tune.loguniform}
    return {each.name: draw[each.kind](*each.values) for each in space.dimensions}


class Clip:
    """Clips values that were moved up or down to the space."""

    def __init__(self, space: Space) -> None:
        self._dimensions = {each.name: each for each in space.dimensions}

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        values = config["point"]["values"]
        values.update({name: self._dimensions[name].clipped(value) for name, value in values.items()})
        return config


_SCHEDULERS: dict[str, Callable[..., TrialScheduler]] = {
    "asha": _asha,
    "median": _median,
    "pbt": _population,
    "none": lambda sweep, **common: FIFOScheduler(),
}
