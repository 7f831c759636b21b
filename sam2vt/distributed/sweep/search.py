"""Choose the values of the next trial: none at first, then by the chosen algorithm."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sam2vt.configuration.sweep import Sweep
from sam2vt.configuration.sweep_space import SWITCH, Space, Values
from sam2vt.distributed.sweep.record import StateReader
from sam2vt.distributed.sweep.results import DEFAULT, Objective
from sam2vt.distributed.sweep.trial import OBJECTIVE_KEYS


def search_arguments(sweep: Sweep, objectives: Sequence[Objective]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (`param_space` of the Tuner, arguments of its TuneConfig).

    The config of a trial has its values at `point`.
    """
    settings = sweep.settings
    if settings.algorithm == "tpe" and settings.scheduler != "pbt":
        searcher = DefaultFirst(optuna_search(sweep, objectives))
        return {}, {"search_alg": searcher, "num_samples": settings.num_trials}
    # Under pbt another trial may take over the values of the unswept one, so it has to name them.
    default = {name: sweep.space.defaults[name] for name in sweep.space.fields}
    first = default if settings.scheduler == "pbt" else {}
    points = [
        point(number, values) for number, values in enumerate([first, *known_points(sweep)], start=DEFAULT)
    ]
    return {"point": tune.grid_search(points)}, {"num_samples": 1}


def point(number: int, values: Values) -> dict[str, Any]:
    """Return the part of a trial's config that this package reads."""
    return {"number": number, "values": values}


def known_points(sweep: Sweep) -> Iterator[Values]:
    """Return the points of algorithms that ignore results: those of a grid, or random ones by the seed."""
    if sweep.settings.algorithm == "grid":
        return sweep.space.grid()
    return islice(random_points(sweep.space, sweep.settings.seed), sweep.settings.num_trials - 1)


def random_points(space: Space, seed: int) -> Iterator[Values]:
    """Yield points without end; the same seed gives the same points."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    while True:
        yield space.draw(study.ask())


def optuna_search(sweep: Sweep, objectives: Sequence[Objective]) -> OptunaSearch:
    """Return Optuna's tree-structured Parzen estimator over the space, for one objective or several."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metrics, modes = list(OBJECTIVE_KEYS[: len(objectives)]), [objective.mode for objective in objectives]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=sweep.settings.seed,
            n_startup_trials=max(3, min(10, sweep.settings.num_trials // 4)),  # at random
            multivariate=True,
            group=True,  # conditional settings beside unconditional ones
            constant_liar=True,  # trials that run at the same time should differ
        )
    # Optuna takes a single objective without lists.
    metric, mode = (metrics[0], modes[0]) if len(objectives) == 1 else (metrics, modes)
    return OptunaSearch(sweep.space.draw, metric=metric, mode=mode, sampler=sampler)


class DefaultFirst(Searcher):
    """Wraps a searcher: the first trial is the unswept configuration, which the searcher does not see."""

    def __init__(self, inner: OptunaSearch) -> None:
        super().__init__(metric=inner.metric, mode=inner.mode)
        self.inner = inner
        self.next_number = DEFAULT
        self.default_trial: str | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the config of the next trial, None if the searcher has none."""
        number, self.next_number = self.next_number, self.next_number + 1
        if number == DEFAULT:
            self.default_trial = trial_id
            return {"point": point(number, {})}
        drawn = self.inner.suggest(trial_id)
        if drawn is None:
            return None
        return {"point": point(number, {k: v for k, v in drawn.items() if not k.endswith(SWITCH)})}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the searcher of a validation."""
        if trial_id != self.default_trial:
            self.inner.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher of the end of a trial."""
        if trial_id != self.default_trial:
            self.inner.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Write the state; Tune calls this after each trial."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.__dict__, file)

    def restore(self, checkpoint_path: str) -> None:
        """Read the state that Tune has copied from the sweep's own folder. Raises ConfigError."""
        state = StateReader(Path(checkpoint_path).read_bytes(), checkpoint_path).load()
        self.__dict__.update(state)
