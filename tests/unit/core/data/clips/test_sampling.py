"""Order of draws: permutations, ranks, epochs, what is dropped."""

from __future__ import annotations

import pytest

from sam2vt.core.data.clips.sampling import ClipSampler, limited_batches, sample_at, usable_clips
from sam2vt.core.types import SampleKey
from sam2vt.errors import ConfigError


def test_in_order_without_shuffle():
    keys = [sample_at(i, num_videos=3, clips_per_video=2, seed=0, shuffle=False) for i in range(8)]
    assert keys == [*(SampleKey(0, i) for i in range(6)), SampleKey(1, 0), SampleKey(1, 1)]


def test_shuffled_epochs_are_different_permutations_of_all_draws():
    keys = [sample_at(i, 5, 4, seed=3, shuffle=True) for i in range(60)]
    epochs = [[key.index for key in keys[start : start + 20]] for start in (0, 20, 40)]
    assert [key.epoch for key in keys] == [0] * 20 + [1] * 20 + [2] * 20
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [sample_at(i, 5, 4, seed=4, shuffle=True).index for i in range(20)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_one_rank_follows_the_sequence(shuffle):
    sampler = ClipSampler(3, 2, seed=1, shuffle=shuffle, epoch=2)
    assert list(sampler) == [sample_at(i, 3, 2, 1, shuffle) for i in range(12, 18)]
    assert len(sampler) == 6


def test_set_epoch_moves_on():
    sampler = ClipSampler(4, 1, seed=0, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    assert {key.epoch for key in sampler} == {1}
    assert sorted(key.index for key in sampler) == sorted(key.index for key in first)
    assert list(sampler) == list(sampler)


def test_each_pass_is_the_next_epoch_unless_one_is_set():
    sampler = ClipSampler(4, 1, seed=0, shuffle=True)
    passes = [list(sampler) for _ in range(3)]
    assert passes == [[sample_at(i, 4, 1, 0, True) for i in range(start, start + 4)] for start in (0, 4, 8)]
    fixed = ClipSampler(4, 1, seed=0, shuffle=True, epoch=1)
    assert list(fixed) == list(fixed) == passes[1]


def test_ranks_share_an_epoch_by_batches_and_drop_the_rest():
    ranks = [ClipSampler(7, 3, 5, True, rank, world_size=2, epoch=1, batch_size=4) for rank in range(2)]
    parts = [list(sampler) for sampler in ranks]
    whole = [sample_at(i, 7, 3, 5, True) for i in range(21, 42)]
    assert parts[0] == whole[0:4] + whole[8:12]
    assert parts[1] == whole[4:8] + whole[12:16]
    assert [len(sampler) for sampler in ranks] == [8, 8]


def test_an_epoch_without_a_batch_for_each_rank_is_an_error():
    assert usable_clips(3, 3, world_size=2, batch_size=4) == 8
    with pytest.raises(ConfigError, match="3 videos x 2 clips_per_video = 6 .*at least 3"):
        ClipSampler(3, 2, 0, True, 0, world_size=2, batch_size=4)
    with pytest.raises(ConfigError, match="rank=2"):
        ClipSampler(3, 2, 0, True, rank=2, world_size=2)


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 7), (0.5, 3), (1, 1), (9, 7)])
def test_a_limit_counts_batches_or_is_a_share(limit: float, expected: int) -> None:
    assert limited_batches("trainer.limit_train_batches", 7, limit, "batches") == expected


def test_a_share_below_one_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"limit_train_batches=0.001: leaves 0.001 x 8 = 0.008.*1/8"):
        limited_batches("trainer.limit_train_batches", 8, 0.001, "batches")
