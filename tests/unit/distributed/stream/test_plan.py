from __future__ import annotations

import pytest

from sam2vt.config import Config
from sam2vt.core.data.clips.sampling import ClipSampler, sample_at
from sam2vt.distributed.stream.plan import BLANK, Division, StreamPlan, plan_stream
from sam2vt.errors import ConfigError


def plan_of(videos: int = 5, world_size: int = 2, batch_size: int = 2, **trainer: object) -> StreamPlan:
    config = Config()
    config.ray.num_workers, config.dataset.batch_size, config.dataset.clips_per_video = (
        world_size,
        batch_size,
        3,
    )
    for name, value in {"max_epochs": 2, **trainer}.items():
        setattr(config.trainer, name, value)
    return plan_stream(config, videos)


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 1), (1, 4), (2, 2), (3, 2)])
def test_gives_each_rank_the_clips_of_the_local_sampler(world_size: int, batch_size: int) -> None:
    plan = plan_of(5, world_size, batch_size)
    for rank in range(world_size):
        rows = [row for step in range(plan.total_steps) for row in plan.rows(step, rank)]
        got = [sample_at(plan.position(row), 5, 3, seed=1, shuffle=True) for row in rows]
        samplers = [
            ClipSampler(5, 3, 1, True, rank, world_size, epoch, batch_size=batch_size) for epoch in range(2)
        ]
        assert got == [key for sampler in samplers for key in sampler]


def test_every_row_is_read_once() -> None:
    plan = plan_of()
    rows = [row for step in range(plan.total_steps) for rank in range(2) for row in plan.rows(step, rank)]
    assert rows == list(range(plan.total_rows))


@pytest.mark.parametrize(
    ("trainer", "used", "total"),
    [
        ({}, 3, 6),
        ({"limit_train_batches": 2}, 2, 4),
        ({"limit_train_batches": 0.67}, 2, 4),
        ({"limit_train_batches": 99}, 3, 6),
        ({"max_steps": 4}, 3, 4),
        ({"max_steps": 2, "accumulate_grad_batches": 2}, 3, 4),
        ({"max_steps": 7, "max_epochs": -1}, 3, 7),
    ],
)
def test_limits(trainer: dict[str, object], used: int, total: int) -> None:
    plan = plan_of(**trainer)
    assert (plan.steps_per_epoch, plan.used_steps_per_epoch, plan.total_steps) == (3, used, total)


def test_a_limited_epoch_is_followed_by_the_next_epochs_first_clip() -> None:
    plan = plan_of(limit_train_batches=2)
    assert [plan.position(row) for row in (0, 7, 8, 9)] == [0, 7, 15, 16]


def test_goes_on_from_a_recorded_position() -> None:
    plan = plan_of()
    assert [plan.step_at(0, 0), plan.step_at(0, 8), plan.step_at(1, 4)] == [0, 2, 4]
    assert plan.epoch_end(2) == 3
    assert plan.epoch_end(3) == 6
    with pytest.raises(ConfigError, match="3 clips into epoch 0.*the 4 clips that a step takes"):
        plan.step_at(0, 3)


def test_refuses_an_epoch_without_a_step() -> None:
    with pytest.raises(ConfigError, match=r"3 clips, fewer than 2 ranks x batch_size 2"):
        plan_of(videos=1)
    with pytest.raises(ConfigError, match=r"limit_train_batches=0.1: leaves .* less than one"):
        plan_of(limit_train_batches=0.1)
    with pytest.raises(ConfigError, match=r"max_epochs=-1 and trainer.max_steps=-1"):
        plan_of(max_epochs=-1)


@pytest.mark.parametrize("full", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 7, 8])
def test_any_number_of_workers_takes_the_clips_of_a_step(full: int, workers: int) -> None:
    plan = plan_of(videos=11, world_size=full, batch_size=2)
    division = Division(plan, workers)
    for step in range(plan.total_steps):
        batches = range(step * division.rounds, (step + 1) * division.rounds)
        rows = [row for batch in batches for rank in range(workers) for row in division.rows(batch, rank)]
        own = [row for row in rows if row != BLANK]
        assert own == list(range(step * plan.rows_per_step, (step + 1) * plan.rows_per_step))
        assert len(rows) == division.slots_per_step
    assert division.batches_per_epoch == plan.used_steps_per_epoch * division.rounds


@pytest.mark.parametrize(("full", "workers"), [(2, 1), (8, 7), (8, 3), (3, 8), (4, 4)])
def test_slots_come_in_the_order_in_which_ranks_take_turns(full: int, workers: int) -> None:
    plan = plan_of(videos=11, world_size=full, batch_size=2)
    division = Division(plan, workers)
    slots = iter(range(2 * division.slots_per_step))
    for batch in range(2 * division.rounds):
        for rank in range(workers):
            got = [division.row_of_slot(next(slots)) for _ in range(plan.batch_size)]
            assert got == division.rows(batch, rank)


def test_a_resumed_run_keeps_its_clips_a_step() -> None:
    config = Config()
    config.dataset.clips_per_video = 10
    config.ray.num_workers, config.dataset.batch_size = 2, 1
    assert plan_stream(config, 5, clips_per_step=4).num_shares == 4
    config.dataset.batch_size = 2
    assert plan_stream(config, 5, clips_per_step=4).num_shares == 2
    for workers, batch_size in ((3, 2), (2, 3), (8, 1)):
        config.ray.num_workers, config.dataset.batch_size = workers, batch_size
        with pytest.raises(ConfigError, match=f"takes 4 clips per step.*{workers} workers"):
            plan_stream(config, 5, clips_per_step=4)


@pytest.mark.parametrize("trainer", [{"max_epochs": 0}, {"max_steps": 0}, {"max_epochs": -1, "max_steps": 0}])
def test_a_run_of_no_steps_is_a_plan_too(trainer: dict[str, object]) -> None:
    plan = plan_of(**trainer)
    assert (plan.used_steps_per_epoch, plan.total_steps, plan.total_rows) == (3, 0, 0)


def test_five_shares_over_two_workers() -> None:
    """Three rounds of 2, 2 and 1 shares, each of two clips; three steps of 10 clips in an epoch of 33."""
    plan = plan_of(videos=11, world_size=5, batch_size=2)
    assert (plan.rows_per_step, plan.rows_per_epoch, plan.total_rows) == (10, 30, 60)
    assert [plan.position(row) for row in (29, 30, 31)] == [29, 33, 34]
    assert [plan.step_at(0, 20), plan.step_at(1, 0), plan.step_at(2, 10)] == [2, 3, 7]
    assert [plan.epoch_end(step) for step in (0, 2, 3, 5, 6)] == [3, 3, 6, 6, 9]
    assert list(plan.rows(4, 3)) == [46, 47]
    division = Division(plan, 2)
    assert (division.rounds, division.batches_per_epoch, division.slots_per_step) == (3, 9, 12)
    assert [division.share(batch, 1) for batch in range(4)] == [1, 3, 5, 1]
    assert [division.rows(batch, 1) for batch in range(4)] == [[2, 3], [6, 7], [BLANK, BLANK], [12, 13]]
    assert [division.row_of_slot(slot) for slot in range(7, 14)] == [7, 8, 9, BLANK, BLANK, 10, 11]
