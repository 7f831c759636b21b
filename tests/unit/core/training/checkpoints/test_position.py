from __future__ import annotations

from types import SimpleNamespace

import pytest

from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.training.checkpoints.position import (
    Position,
    ResumableSampler,
    batches_since_step,
    may_save,
    resume_within_epoch,
    rewind_loops,
)


def sampler(rank: int = 0, world_size: int = 1) -> ClipSampler:
    return ClipSampler(5, 2, seed=3, shuffle=True, rank=rank, world_size=world_size, batch_size=2)


@pytest.mark.parametrize(
    ("start", "clips", "expected"),
    [
        ((0, 0), 0, (0, 0)),
        ((0, 0), 7, (0, 7)),
        ((0, 0), 8, (1, 0)),  # an epoch's end is the next one's beginning
        ((2, 6), 2, (3, 0)),
        ((2, 6), 11, (4, 1)),
    ],
)
def test_advanced(start, clips, expected) -> None:
    assert Position(*start).advanced(clips, 8) == expected


def test_an_epoch_of_unknown_length_never_ends() -> None:
    assert Position(3, 4).advanced(0, float("inf")) == (3, 4)


@pytest.mark.parametrize("world_size", [1, 2])
def test_goes_on_where_the_position_is(world_size) -> None:
    for rank in range(world_size):
        whole = sampler(rank, world_size)
        whole.set_epoch(4)
        expected = list(whole)
        resumed = ResumableSampler(sampler(rank, world_size), lambda: Position(4, 4))
        assert list(resumed) == expected[4 // world_size :]
        assert len(resumed) == len(expected)


def test_asks_for_the_position_each_time() -> None:
    positions = iter([Position(0, 0), Position(1, 0)])
    resumable, plain = ResumableSampler(sampler(), lambda: next(positions)), sampler()
    first, second = list(resumable), list(resumable)
    assert first == list(plain)
    plain.set_epoch(1)
    assert second == list(plain) != first


def test_lightning_finds_no_epoch_to_set() -> None:
    assert not hasattr(ResumableSampler(sampler(), lambda: Position(0, 0)), "set_epoch")


@pytest.mark.parametrize(
    ("ready", "is_last", "expected"),
    [(0, False, 0), (1, False, 1), (3, False, 0), (5, False, 2), (7, True, 0), (8, False, 0)],
)
def test_batches_since_step(ready, is_last, expected) -> None:
    progress = SimpleNamespace(is_last_batch=is_last, current=SimpleNamespace(ready=ready))
    epoch_loop = SimpleNamespace(batch_progress=progress)
    fit_loop = SimpleNamespace(epoch_loop=epoch_loop)
    trainer = SimpleNamespace(fit_loop=fit_loop, num_training_batches=8, accumulate_grad_batches=3)
    assert batches_since_step(trainer) == expected


def counted(**counters: int) -> dict[str, dict[str, int]]:
    return {"total": dict(counters), "current": dict(counters)}


@pytest.mark.parametrize(
    ("clips", "processed", "expected"),
    [
        (4, 2, (1, 6)),  # ended by max_steps, within its second epoch: Lightning has counted it
        (0, 2, (2, 7)),  # at its end
        (4, 1, (1, 7)),  # saved between two batches of it
    ],
)
def test_an_epoch_that_max_steps_ended_is_open_again(clips, processed, expected) -> None:
    epochs = counted(ready=2, started=2, processed=processed, completed=processed)
    batches = counted(ready=7, started=7, processed=7, completed=7)
    loops = {"epoch_progress": epochs, "epoch_loop.batch_progress": batches}
    checkpoint = {"loops": {"fit_loop": loops}, "SAM2LightningDataModule": {"clips": clips}}
    trainer = SimpleNamespace(fit_loop=SimpleNamespace())
    resume_within_epoch(trainer, checkpoint)
    for which in ("total", "current"):
        assert (epochs[which]["processed"], batches[which]["completed"]) == expected
    assert not trainer.fit_loop._iteration_based_training()


def test_rewind_loops() -> None:
    progress = {"total": {"ready": 9, "completed": 9}, "current": {"ready": 4, "completed": 4}}
    checkpoint = {"loops": {"fit_loop": {"epoch_loop.batch_progress": progress}}}
    rewind_loops(checkpoint, 2)
    assert progress == {"total": {"ready": 7, "completed": 7}, "current": {"ready": 2, "completed": 2}}


@pytest.mark.parametrize(
    ("accumulates", "global_step", "is_validated", "expected"),
    [(False, 3, False, True), (True, 3, False, False), (False, 4, False, False), (False, 3, True, False)],
)
def test_a_signal_saves_a_step_that_nothing_else_saves(
    accumulates: bool, global_step: int, is_validated: bool, expected: bool
) -> None:
    """Neither between two batches of an update, nor at the run's end, nor before a validation."""
    epoch_loop = SimpleNamespace(
        _should_accumulate=lambda: accumulates, _should_check_val_fx=lambda _: is_validated
    )
    fit_loop = SimpleNamespace(epoch_loop=epoch_loop, _data_fetcher=None)
    trainer = SimpleNamespace(fit_loop=fit_loop, max_steps=4, global_step=global_step)
    assert may_save(trainer) == expected  # type: ignore[arg-type]
