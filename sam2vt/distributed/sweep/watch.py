"""What is done beside a sweep as its trials go on: the table is drawn, leftovers are removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep.collect import result_so_far
from sam2vt.distributed.sweep.leftovers import remove_leftovers
from sam2vt.distributed.sweep.table import SweepTable


class Watch(tune.Callback):
    """Runs in the driver. Tune saves it with the sweep, without the table."""

    def __init__(self, sweep: Sweep, storage: RunStorage, num_trials: int, concurrent: int) -> None:
        self._sweep, self._storage = sweep, storage
        self._num_trials, self._concurrent = num_trials, concurrent
        self._table: SweepTable | None = None
        self._over: set[str] = set()  # trials that came to their end

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def setup(self, *args: Any, **info: Any) -> None:
        self._table = SweepTable(self._num_trials, self._concurrent)

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict, **info: Any
    ) -> None:
        self._update(trials)

    def on_trial_complete(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trials, trial)

    def on_trial_error(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trials, trial)

    def on_experiment_end(self, trials: Sequence[TuneTrial], **info: Any) -> None:
        """By now Tune calls those trials ended, too, that a signal cut short."""
        assert self._table is not None
        over = [trial for trial in trials if trial.trial_id in self._over]
        self._table.close(result_so_far(self._sweep, self._storage, over))

    def _ended(self, trials: Sequence[TuneTrial], trial: TuneTrial) -> None:
        self._over.add(trial.trial_id)
        self._update(trials)
        result = result_so_far(self._sweep, self._storage, trials)
        remove_leftovers(result, self._storage, self._sweep.settings.keep_best)

    def _update(self, trials: Sequence[TuneTrial]) -> None:
        assert self._table is not None
        self._table.update(result_so_far(self._sweep, self._storage, trials))
