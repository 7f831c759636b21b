"""What Lightning's counters say of a batch, by stand-ins of its loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sam2vt.core.training.checkpoints.position import (
    batches_since_step,
    ends_the_epoch,
    ends_the_run,
    is_validated_next,
    logs_this_step,
    makes_a_step,
    resume_within_epoch,
)


def trainer(*, fetcher: object = None, **loop: Any) -> Any:
    """A trainer with this epoch loop; three batches make an update."""
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(**loop), _data_fetcher=fetcher)
    return SimpleNamespace(fit_loop=fit_loop, accumulate_grad_batches=3, num_training_batches=8)


@pytest.mark.parametrize(
    ("ready", "is_last", "waiting"),
    [(0, False, 0), (1, False, 1), (2, False, 2), (3, False, 0), (7, False, 1), (8, False, 0), (5, True, 0)],
)
def test_batches_that_wait_for_an_update(ready: int, is_last: bool, waiting: int) -> None:
    progress = SimpleNamespace(is_last_batch=is_last, current=SimpleNamespace(ready=ready))
    assert batches_since_step(trainer(batch_progress=progress)) == waiting


@pytest.mark.parametrize(
    ("interval", "stepped", "accumulates", "logs"),
    [
        *((3, stepped, False, stepped in (2, 5)) for stepped in range(7)),
        (3, 2, True, False),
        (1, 0, False, True),
        (1, 7, False, True),
        (0, 2, False, False),
        (None, 2, False, False),
        (0, 2, True, False),
    ],
)
def test_every_third_update_is_logged(
    interval: int | None, stepped: int, accumulates: bool, logs: bool
) -> None:
    asked = trainer(_batches_that_stepped=stepped, _should_accumulate=lambda: accumulates)
    asked.log_every_n_steps = interval
    assert logs_this_step(asked) is logs


@pytest.mark.parametrize("answer", [True, False])
def test_what_lightning_answers(answer: bool) -> None:
    assert makes_a_step(trainer(_should_accumulate=lambda: not answer)) is answer
    assert ends_the_epoch(trainer(_num_ready_batches_reached=lambda: answer)) is answer
    fetcher, asked = object(), []

    def check(given: object) -> bool:
        asked.append(given)
        return answer

    assert is_validated_next(trainer(fetcher=fetcher, _should_check_val_fx=check)) is answer
    assert asked == [fetcher]


@pytest.mark.parametrize(
    ("limit", "done", "ends"),
    [(-1, 0, False), (-1, 9, False), (1, 0, False), (1, 1, True), (5, 4, False), (5, 5, True), (5, 6, True)],
)
def test_a_run_ends_with_its_last_step(limit: int, done: int, ends: bool) -> None:
    assert ends_the_run(SimpleNamespace(max_steps=limit, global_step=done)) is ends


def resumed(checkpoint: dict[str, Any]) -> None:
    asked = trainer()
    resume_within_epoch(asked, checkpoint)
    assert asked.fit_loop._iteration_based_training() is False


def loops(processed: int) -> dict[str, Any]:
    """The counters of the second epoch of a run that was resumed in its first one."""
    return {
        "epoch_progress": {
            "total": {"ready": 3, "processed": processed + 1, "completed": processed + 1},
            "current": {"ready": 2, "processed": processed, "completed": processed},
        },
        "epoch_loop.batch_progress": {
            "total": {"ready": 12, "completed": 12},
            "current": {"ready": 5, "completed": 5},
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": 4},
    }


def test_an_epoch_that_a_limit_ended_is_open_again_with_its_last_batch_to_complete() -> None:
    given = loops(processed=2)
    resumed({"loops": {"fit_loop": given}, "SAM2LightningDataModule": {"clips": 10}})
    assert given == {
        "epoch_progress": {
            "total": {"ready": 3, "processed": 2, "completed": 2},
            "current": {"ready": 2, "processed": 1, "completed": 1},
        },
        "epoch_loop.batch_progress": {
            "total": {"ready": 12, "completed": 11},
            "current": {"ready": 5, "completed": 4},
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": 3},
    }


@pytest.mark.parametrize(
    ("processed", "data"),
    [
        (2, {"SAM2LightningDataModule": {"clips": 0}}),
        (1, {"SAM2LightningDataModule": {"clips": 10}}),
        (2, {}),
    ],
)
def test_other_epochs_stay_as_they_are(processed: int, data: dict[str, Any]) -> None:
    given = loops(processed)
    resumed({"loops": {"fit_loop": given}, **data})
    assert given == loops(processed)


def test_a_checkpoint_without_counters_of_the_log_or_of_a_fit_is_taken_too() -> None:
    given = loops(processed=2)
    del given["epoch_loop.state_dict"]
    resumed({"loops": {"fit_loop": given}, "SAM2LightningDataModule": {"clips": 1}})
    assert given["epoch_progress"]["current"]["processed"] == 1
    resumed({"loops": {}, "SAM2LightningDataModule": {"clips": 1}})
    resumed({"SAM2LightningDataModule": {"clips": 1}})
