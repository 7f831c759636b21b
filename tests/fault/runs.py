"""Small runs to be disturbed, and what an undisturbed one would have trained on and come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.sampling import sample_at
from sam2vt.core.training.callbacks.averaging import TRAINED
from sam2vt.core.training.callbacks.results_csv import read_rows
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.source import find_clips
from tests.fault.trace import Trace, fingerprints

CLIPS_A_STEP, STEPS_AN_EPOCH, EPOCHS = 2, 6, 2
STEPS = STEPS_AN_EPOCH * EPOCHS
SAVED_EVERY = 4  # steps, and at the ends of epochs: 4, 6, 8, 12
GATE = 9  # mid-epoch; what was done since step 8 is lost if a rank is

TINY = (
    "experiment=demo",
    "model.image_size=64",
    "dataset.image_size=[64,64]",
    "valdataset.image_size=[64,64]",
    "max_objects=2",
    "dataset.batch_size=1",
    "dataset.max_frame_stride=null",
    "dataset.prompt_types=[point]",
    "dataset.video_clip_length=2",
    "dataset.num_workers=0",
    "valdataset.num_workers=0",
    f"dataset.clips_per_video={STEPS_AN_EPOCH}",  # of two videos
    f"trainer.max_epochs={EPOCHS}",
    "trainer.max_steps=-1",
    "trainer.val_check_interval=1.0",
    "trainer.limit_val_batches=0",
    "trainer.num_overlay_videos=0",
    "trainer.log_every_n_steps=1",
    "trainer.logger=false",
    f"trainer.checkpoint_every_n_steps={SAVED_EVERY}",
    "scheduler.warmup_steps=1",
    "ray.collective_timeout_seconds=30",
)
# Also clicks drawn while it trains, an average of the weights, and validations at the ends of epochs:
# what a resumed run must come to again. Prompts are points alone, by which every clip has a name of its own.
WHOLE = (
    "model.num_correction_clicks=1",
    "model.ema.decay=0.8",
    "model.ema.start_step=3",  # between the first points at which a run is killed
    "valdataset.video_clip_length=2",
    "trainer.limit_val_batches=1",
    "trainer.early_stopping_patience=5",
)


class Gate(Protocol):
    """Holds a run until it is opened."""

    def open_all(self) -> None: ...


def overrides_of(videos: Path, output_dir: Path, *overrides: str) -> list[str]:
    return [*TINY, f"dataset.data_path={videos}", f"output_dir={output_dir}", *overrides]


def config_of(videos: Path, output_dir: Path, *overrides: str) -> Config:
    """Two epochs of six steps of two clips each, on two workers unless said otherwise."""
    return load_config(compose_config(overrides_of(videos, output_dir, *overrides)))


def traced(
    folder: Path,
    *more: L.Callback,
    gate: int | None = None,
    pace: float = 0.0,
    before: Callable[[], None] | None = None,
) -> Callable[..., Any]:
    """The training of a worker, with a `Trace` and `more` callbacks; `before` is called first."""

    def run(job: Any) -> Any:
        if before is not None:
            before()
        from sam2vt.distributed.worker import entry
        from sam2vt.distributed.worker import training as worker

        default = worker.default_callbacks
        worker.default_callbacks = lambda config: [Trace(folder, gate, pace), *more, *default(config)]  # type: ignore[assignment]
        return entry.train_on_worker(job)

    return run


@contextmanager
def meanwhile(strike: Callable[[], None], *gates: Gate) -> Iterator[None]:
    """Runs `strike` beside the block; what it raises is raised where the block ends well.

    If it fails the `gates` are opened, so that the block does not wait for ever.
    """

    def run() -> None:
        try:
            strike()
        except BaseException:
            for gate in gates:
                gate.open_all()
            raise

    with ThreadPoolExecutor(1, thread_name_prefix="fault") as pool:
        striking = pool.submit(run)
        yield
        striking.result()


def expected_clips(config: Config) -> dict[int, Counter[str]]:
    """What each step of an undisturbed run trains on, made without Ray."""
    source = find_clips(config, run_storage(config))
    job, plan = source.job, source.plan

    def clip(row: int) -> str:
        key = sample_at(plan.position(row), **job.sampling)
        return fingerprints(collate_fn([make_clip(job.records, key, job.spec)]))[0]

    rows = plan.rows_per_step
    return {
        step: Counter(clip(row) for row in range(step * rows, (step + 1) * rows))
        for step in range(plan.total_steps)
    }


def final_state(run: Path) -> dict[str, Any]:
    """The newest checkpoint of a run, which must be of its last step."""
    store = CheckpointStore(str(run / "checkpoints"))
    newest = store.newest()
    assert newest is not None, f"{run} has no checkpoint"
    assert newest.step == STEPS
    return torch.load(store.path(newest), weights_only=True)


def final_rows(run: Path) -> list[dict[str, str]]:
    """The rows of results.csv, without times."""
    rows = read_rows(run / "results.csv")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_result(state: dict[str, Any], reference: dict[str, Any]) -> None:
    """Weights, optimizer state, position and what callbacks keep, equal to the bit."""
    weights = ("state_dict", TRAINED) if TRAINED in reference else ("state_dict",)
    for name in (*weights, "optimizer_states", "lr_schedulers", "SAM2LightningDataModule", "callbacks"):
        different = list(differences(state[name], reference[name], name))
        assert not different, different[:5]


def differences(a: Any, b: Any, name: str) -> Iterator[str]:
    """Where two nested containers of tensors and numbers are not equal."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if not torch.equal(a, b):
            yield name
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() | b.keys():
            yield from differences(a.get(key), b.get(key), f"{name}.{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b)):
            yield from differences(*pair, f"{name}.{i}")
    elif a != b:
        yield f"{name}: {a} != {b}"
