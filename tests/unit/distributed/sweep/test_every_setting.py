"""Every setting of a sweep, changed alone: what Tune is asked for changes, or what is kept."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sam2vt.config import SweepConfig
from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.sweep import launch
from sam2vt.distributed.sweep.collect import objectives_of
from sam2vt.distributed.sweep.schedule import build_scheduler
from sam2vt.distributed.sweep.search import search_arguments
from sam2vt.settings import settings_of

SweepOf = Callable[..., Sweep]
# Setting -> what it is set to, and what else has to be set for it to matter.
CASES: dict[str, tuple[str, ...]] = {
    "space": ("sweep.space.loss.dice_weight.log_uniform=[1.0,2.0]",),
    "algorithm": ("sweep.algorithm=random",),
    "scheduler": ("sweep.scheduler=median",),
    "num_trials": ("sweep.num_trials=5",),
    "objectives": ("sweep.objectives=[val/J]",),
    "seed": ("sweep.seed=1",),
    "max_concurrent": ("sweep.max_concurrent=2",),
    "keep_best": ("sweep.keep_best=2",),
    "grace": ("sweep.grace=0.5",),
    "reduction": ("sweep.reduction=2",),
    "perturb_every": ("sweep.perturb_every=0.5", "sweep.scheduler=pbt"),
    "quantile": ("sweep.quantile=0.5", "sweep.scheduler=pbt"),
}


def plain(value: Any) -> Any:
    """Numbers and texts of a scheduler, by name; the counters that Tune keeps in it are the same."""
    return {name: each for name, each in vars(value).items() if isinstance(each, (int, float, str, tuple))}


def drawn(param_space: dict[str, Any], searcher: Any) -> list[Any]:
    """The first values that are tried."""
    if searcher is None:
        return param_space["point"]["grid_search"]
    return [searcher.suggest(f"trial {number}") for number in range(3)]


def seen(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Any:
    objectives = objectives_of(sweep)
    space, arguments = search_arguments(sweep, objectives)
    scheduler = build_scheduler(sweep, objectives[0].mode)
    rungs = [bracket._rungs for bracket in getattr(scheduler, "_brackets", [])]
    kept: list[int] = []
    monkeypatch.setattr(launch, "remove_leftovers", lambda result, storage, keep: kept.append(keep))
    monkeypatch.setattr(launch, "remove_weights_in_transit", lambda *_: None)
    launch.clean_up(None, sweep, SimpleNamespace())  # type: ignore[arg-type]
    tried = drawn(space, arguments.get("search_alg"))
    number, together = launch.num_trials(sweep), launch.how_many_at_once(sweep, 8)
    return [objectives, tried, type(scheduler).__name__, plain(scheduler), str(rungs), number, together, kept]


def test_each_setting_has_a_case() -> None:
    assert set(CASES) == set(settings_of(SweepConfig))


@pytest.mark.parametrize("name", CASES)
def test_a_setting_has_an_effect(sweep_of: SweepOf, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, *beside = CASES[name]
    before, after = (seen(sweep_of(*given), monkeypatch) for given in (beside, [*beside, changed]))
    again = seen(sweep_of(*beside), monkeypatch)
    assert before == again
    assert before != after
