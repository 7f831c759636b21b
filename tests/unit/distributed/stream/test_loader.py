"""Batches out of Ray Data against those of the local loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import pytest
import ray
import ray.data
import torch
from torch.utils.data import DataLoader

from sam2vt.config import AugmentConfig, Config
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.formats.packed import open_packed
from sam2vt.core.data.writing.pack import PackOptions, pack
from sam2vt.core.training.updates import counted_together
from sam2vt.core.types import Batch, VideoRecord
from sam2vt.distributed.stream.decode import ClipDecoder, DecodeJob
from sam2vt.distributed.stream.loader import StreamLoader
from sam2vt.distributed.stream.plan import Division, StreamPlan, plan_stream
from sam2vt.distributed.stream.start import Stream, StreamConfig
from sam2vt.errors import DataError, TrainingError

CLIPS_PER_VIDEO, EPOCHS, SEED = 3, 2, 5
SPEC = ClipSpec(
    image_size=(64, 64),
    clip_length=4,
    prompts=PromptGenerator(["point", "box", "mask"], num_of_pos_points=2, num_of_neg_points=1),
    seed=SEED,
    max_objects=2,
    max_conditioning_frames=2,
)

AUGMENTED = replace(
    SPEC,
    augment=AugmentConfig(
        mosaic_probability=0.4,
        paste_probability=0.4,
        flip_probability=0.5,
        degrees=20.0,
        shear=10.0,
        crop_area=(0.6, 1.0),
        scale_jitter=(0.8, 1.2),
        contrast=0.2,
        hue=0.1,
        grayscale_probability=0.3,
        frame_brightness=0.1,
        blur_probability=0.4,
        noise_probability=0.4,
        jpeg_probability=0.4,
    ),
)


class Clips(torch.utils.data.Dataset):
    def __init__(self, records: list[VideoRecord], spec: ClipSpec) -> None:
        self.records, self.spec = records, spec

    def __getitem__(self, key: Any) -> Any:
        return make_clip(self.records, key, self.spec)


def plan_of(world_size: int, batch_size: int) -> StreamPlan:
    config = Config()
    config.ray.num_workers, config.dataset.batch_size = world_size, batch_size
    config.dataset.clips_per_video, config.trainer.max_epochs = CLIPS_PER_VIDEO, EPOCHS
    return plan_stream(config, num_videos=3)


def job_of(records: Sequence[VideoRecord], spec: ClipSpec = SPEC) -> DecodeJob:
    sampling = {"num_videos": 3, "clips_per_video": CLIPS_PER_VIDEO, "seed": SEED, "shuffle": True}
    return DecodeJob(records, spec, sampling)


def stream_loaders(
    records: Sequence[VideoRecord],
    plan: StreamPlan,
    world_size: int,
    first_step: int = 0,
    spec: ClipSpec = SPEC,
) -> list[StreamLoader]:
    """One loader a rank, split as Ray Train splits."""
    stream = Stream(ray.put(job_of(records, spec)), plan, first_step, decode_actors=1)
    shards = StreamConfig().configure({"train": stream}, world_size, None, None)
    division = Division(plan, world_size)
    loaders = [
        StreamLoader(partial(shard.get, "train"), division, rank, first_step=first_step)
        for rank, shard in enumerate(shards)
    ]
    for loader in loaders:
        loader.start()  # ranks begin together
    return loaders


def make_decoder(records: list[VideoRecord], plan: StreamPlan) -> ClipDecoder:
    """A decoder in this process."""
    decoder = ClipDecoder.__new__(ClipDecoder)
    decoder.job, decoder.division, decoder.first_slot = job_of(records), Division(plan, plan.num_shares), 0
    return decoder


def local_batches(
    records: list[VideoRecord], plan: StreamPlan, rank: int, spec: ClipSpec = SPEC
) -> list[Batch]:
    batches = []
    for epoch in range(EPOCHS):
        sampler = ClipSampler(
            3, CLIPS_PER_VIDEO, SEED, True, rank, plan.num_shares, epoch, batch_size=plan.batch_size
        )
        batches += list(
            DataLoader(
                Clips(records, spec), plan.batch_size, sampler=sampler, collate_fn=collate_fn, drop_last=True
            )
        )
    return batches


def assert_same(left: Any, right: Any) -> None:
    assert isinstance(right, type(left)) or left == right  # the second for pytest.approx
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.numpy().tobytes() == right.numpy().tobytes()
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right):
            assert_same(a, b)
    else:
        assert left == right


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 2), (2, 2)])
def test_equal_to_the_local_loader(records: list[VideoRecord], world_size: int, batch_size: int) -> None:
    plan = plan_of(world_size, batch_size)
    for rank, loader in enumerate(stream_loaders(records, plan, world_size)):
        got = [batch for _ in range(EPOCHS) for batch in loader]
        expected = local_batches(records, plan, rank)
        assert len(expected) == EPOCHS * (9 // (world_size * batch_size)) == EPOCHS * len(loader)
        assert_same(got, expected)


@pytest.mark.usefixtures("local_ray")
def test_augmented_clips_are_the_same_bytes_on_both_engines(records: list[VideoRecord]) -> None:
    plan = plan_of(1, 2)
    (loader,) = stream_loaders(records, plan, 1, spec=AUGMENTED)
    got = [batch for _ in range(EPOCHS) for batch in loader]
    assert_same(got, local_batches(records, plan, 0, AUGMENTED))
    plain = local_batches(records, plan, 0)
    assert all(not torch.equal(a["images"], b["images"]) for a, b in zip(got, plain, strict=True))


def test_packed_shards_give_the_same_batches(
    records: list[VideoRecord], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Actors are given the pack's address, and read its rows themselves."""
    out = tmp_path_factory.mktemp("packed") / "pack"
    pack(records, str(out), PackOptions(segment_frames=4), workers=1)
    plan, table = plan_of(1, 2), open_packed(out.as_uri())
    (loader,) = stream_loaders(table, plan, 1)
    assert_same([batch for _ in range(EPOCHS) for batch in loader], local_batches(records, plan, 0))


@pytest.mark.usefixtures("local_ray")
def test_two_workers_share_the_steps_of_three(records: list[VideoRecord]) -> None:
    """From a step within an epoch; the second round of a step has a share for one rank only."""
    plan = plan_of(3, 1)
    steps = plan.total_steps - 1
    got = [list(loader) + list(loader) for loader in stream_loaders(records, plan, 2, first_step=1)]
    shares = [local_batches(records, plan, share)[1:] for share in range(3)]
    for step in range(steps):
        first, second, third = (share[step] for share in shares)
        updates = [got[rank][2 * step]["update"] for rank in (0, 1)]
        assert_same(got[0][2 * step], {**first, "update": updates[0]})
        assert_same(got[1][2 * step], {**second, "update": updates[1]})
        assert_same(got[0][2 * step + 1], {**third, "update": updates[0]})
        assert not got[1][2 * step + 1]["valid_masks"].any()
        # A rank's batches carry the numbers of all its rounds, the blank clip's none.
        assert updates[0] == counted_together([first, third])[0]["update"]
        assert updates[1] == {**counted_together([second])[0]["update"], "batches": 2}
    assert [len(batches) for batches in got] == [2 * steps, 2 * steps]


class Shard:
    """Gives fixed rows instead of a Ray iterator."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def iter_batches(self, **_: Any) -> Any:
        return iter(self.rows)


def test_goes_on_from_the_middle_of_an_epoch(records: list[VideoRecord]) -> None:
    plan = plan_of(2, 1)
    decode = make_decoder(records, plan)
    rows = [decode({"id": np.array(plan.rows(step, 1))}) for step in range(3, plan.total_steps)]
    loader, expected = (
        StreamLoader(lambda: Shard(rows), Division(plan, 2), 1, first_step=3),
        local_batches(records, plan, 1),
    )
    assert_same(list(loader), expected[3:4])  # what is left of the first epoch's four steps
    assert_same(list(loader), expected[4:])
    assert list(loader) == []


def test_bad_data_is_raised_where_its_clip_is_due(records: list[VideoRecord]) -> None:
    frames = list(records[2].frame_paths or ())
    missing = replace(records[2], frame_paths=("/nowhere/0.png",) * len(frames))
    plan = plan_of(1, 1)
    decode = make_decoder([*records[:2], missing], plan)
    expected = local_batches(records, plan, 0)
    bad = [batch["video_id"] for batch in expected].index([missing.video_id])
    rows = [decode({"id": np.array(plan.rows(step, 0))}) for step in range(bad + 1)]
    assert {name: (column.dtype, column.shape) for name, column in rows[bad].items()} == {
        name: (column.dtype, column.shape) for name, column in rows[0].items()
    }
    batches = iter(StreamLoader(lambda: Shard(rows), Division(plan, 1), 0))
    assert_same([next(batches) for _ in range(bad)], expected[:bad])
    with pytest.raises(DataError, match="/nowhere/0.png"):
        next(batches)


@pytest.mark.parametrize(("positions", "found"), [([[1]], r"\[1\]"), ([], r"\[\]")])
def test_refuses_rows_that_are_not_its_own(
    records: list[VideoRecord], positions: list[list[int]], found: str
) -> None:
    plan = plan_of(1, 1)
    decode = make_decoder(records, plan)
    rows = [decode({"id": np.array(row)}) for row in positions]
    loader = StreamLoader(lambda: Shard(rows), Division(plan, 1), rank=0)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=f"rows {found} at its batch 0 instead of"):
        next(iter(loader))


def test_a_closed_loader_lets_go_of_the_stream(records: list[VideoRecord]) -> None:
    plan = plan_of(1, 1)
    rows = make_decoder(records, plan)({"id": np.array([0])})
    ended = Event()

    class Endless:
        def iter_batches(self, **_: Any) -> Any:
            try:
                while True:
                    yield rows
            finally:
                ended.set()

    loader = StreamLoader(Endless, Division(plan, 1), rank=0)  # type: ignore[arg-type]
    next(iter(loader))
    loader.close()
    assert ended.wait(10)
