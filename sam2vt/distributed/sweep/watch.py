"""What is done beside a sweep as its trials go on: the table is drawn, leftovers are removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from sam2vt.configuration.sweeping import Sweep
from sam2vt.distributed.storage import RunStorage
from sam2vt.distributed.sweep.collect import result_so_far
from sam2vt.distributed.sweep.leftovers import remove_leftovers
from sam2vt.distributed.sweep.table import SweepTable
from sam2vt.distributed.sweep.trials import SweepResult


class Watch(tune.Callback):
    """Runs in the driver. Tune saves it with the sweep, without the table."""

    def __init__(self, sweep: Sweep, storage: RunStorage, num_trials: int, concurrent: int) -> None:
        self._sweep, self._storage = sweep, storage
        self._num_trials, self._concurrent = num_trials, concurrent
        self._table: SweepTable | None = None
        self._shown: SweepResult | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None, "_shown": None}

    def setup(self, *args: Any, **info: Any) -> None:
        self._table = SweepTable(self._num_trials, self._concurrent)

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict, **info: Any
    ) -> None:
        self._update(trials)

    def on_trial_complete(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trials)

    def on_trial_error(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trials)

    def on_experiment_end(self, trials: Sequence[TuneTrial], **info: Any) -> None:
        """By now Tune calls those trials ended, too, that a signal cut short."""
        if self._table is not None and self._shown is not None:
            self._table.close(self._shown)

    def _ended(self, trials: Sequence[TuneTrial]) -> None:
        self._update(trials)
        result = result_so_far(self._sweep, self._storage, trials)
        remove_leftovers(result, self._storage, self._sweep.settings.keep_best)

    def _update(self, trials: Sequence[TuneTrial]) -> None:
        assert self._table is not None
        self._shown = result_so_far(self._sweep, self._storage, trials)
        self._table.update(self._shown)
