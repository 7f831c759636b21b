"""Writes what the version of commit 984823e leaves on a disk, for tests that read it with later versions.

That commit is the last one before the modules of the package moved. Run it from a checkout of that commit, on
Linux, with nothing but these files added, as one who may make the folder /srv/sam2vt:

    git worktree add ../before 984823e && cp -r tests/compat ../before/tests/ && cd ../before
    PYTHONPATH=$PWD OMP_NUM_THREADS=1 python tests/compat/write_fixtures.py

It makes `tests/compat/984823e` anew but for the network's YAML, and prints how many bytes each part takes.
Later versions must not write these files: their purpose is to come from the old one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from sam2vt.core.data.configured import open_dataset
from sam2vt.core.data.converting import convert as converting
from sam2vt.core.data.converting.convert import convert
from sam2vt.core.data.fingerprint import fingerprint
from sam2vt.core.data.packing import writer
from sam2vt.core.data.packing.dataset import open_packed
from sam2vt.core.data.record_table import RecordTable, write_records
from sam2vt.core.data.sample_data import write_sample_data
from sam2vt.core.data.splits import split_records
from sam2vt.evaluate import load_model

from sam2vt import cli
from sam2vt.config import Config, DatasetConfig
from sam2vt.core.data.dataset import dataset_from_config
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks import known_objects, load_masks, load_void
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.training.callbacks.results_csv import read_rows
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.core.types import (
    LabelImage,
    ObjectImages,
    PackedMasks,
    PackedVideo,
    SampleKey,
    Segmentations,
    VideoRecord,
)
from sam2vt.distributed.launch import fit
from sam2vt.distributed.sweep.collect import objectives_of
from sam2vt.distributed.sweep.launch import run_sweep
from sam2vt.distributed.sweep.search import DefaultFirst, optuna_search
from sam2vt.distributed.sweep.watch import Watch
from sam2vt.train import train
from tests.compat.reading import (
    FIXTURES,
    HERE,
    RAY_FOLDER,
    described,
    described_clip,
    described_masks,
    digest,
    settle,
    statistics,
)
from tests.compat.sources import COLOURS, write_sources
from tests.compat.trials import SWEEPS, Formula, made_with, suggestions, sweep_of, trials_of

TABLES = {
    "davis": (),
    "davis-objects": (),
    "sav": (),
    "coco": (),
    "mots": (),
    "colours": ("--colours", *(f"{k}={','.join(map(str, v))}" for k, v in COLOURS.items())),
    "ctc": (),
    "youtube_vos": (),
    "stills": (),
    "youtube_vis": (),
    "supervisely": (),
}
STEPS, MORE_STEPS = 5, 9  # of the run that is gone on with; an epoch has three


def main() -> None:
    golden: dict[str, Any] = {"made_with": made_with()}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copy(FIXTURES / "network.yaml", "network.yaml")
        write_data()
        settle(Path())
        for write in (write_tables, write_packs, write_unfinished, write_base, write_features, write_run):
            print(write.__name__)
            golden[write.__name__.removeprefix("write_")] = write()
        os.chdir(folder)
        for write in (write_ray_run, write_sweeps):
            print(write.__name__)
            golden[write.__name__.removeprefix("write_")] = write()
            os.chdir(folder)
        Path("golden.json").write_text(json.dumps(golden, sort_keys=True) + "\n")
        shutil.rmtree(FIXTURES)
        shutil.copytree(folder, FIXTURES)
    print_sizes()


def write_data() -> None:
    """`videos` as frames and as an mp4, `clips` to train on with a spoilt one, and a folder a kind."""
    write_sample_data("videos", num_videos=2, num_frames=6, size=(48, 64))
    kinds = Path("kinds")
    write_sample_data(kinds / "davis", num_videos=1, num_frames=4, size=(48, 64))
    write_sources(kinds)
    records = load_records("auto", f"{HERE}/kinds/davis")
    for target in ("davis-objects", "sav", "coco"):
        convert(records, str(kinds / target), target, lossy=True)
    for name in ("a", "b", "spoilt"):
        for part, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
            Path("clips", part, name).mkdir(parents=True)
            for i in range(2):
                source = Path("videos", part, "sample_00", f"{2 * i + (name == 'b'):05d}.{ending}")
                shutil.copy(source, Path("clips", part, name, f"{i:05d}.{ending}"))
    spoilt = Path("clips/JPEGImages/spoilt/00001.jpg")
    spoilt.write_bytes(spoilt.read_bytes()[:-400])


def write_tables() -> dict[str, Any]:
    """A record table a kind, as `sam2vt index` writes it; and of what only the program puts together."""
    Path("tables").mkdir()
    for name, options in TABLES.items():
        cli.main(["index", f"{HERE}/kinds/{name}", f"tables/{name}.parquet", *options])
    write_records(
        split_records(RecordTable("tables/davis.parquet"), "time", 0.5, 0)[1], "tables/split.parquet"
    )
    write_records(odd_records(), "tables/odd.parquet")
    found = {name: masks_of(f"{HERE}/tables/{name}.parquet") for name in [*TABLES, "split"]}
    return {**found, "odd": [described(each) for each in RecordTable("tables/odd.parquet")]}


def odd_records() -> list[VideoRecord]:
    """What files of the kinds above do not bring about; nothing that they name exists."""

    def record(video_id: str, annotations: dict[int, Any], **fields: Any) -> VideoRecord:
        frames = tuple(f"/d/{video_id}/{i:05d}.jpg" for i in range(5))
        given = {"frame_paths": frames, "source": f"/d/{video_id}", **fields}
        return VideoRecord(video_id, 5, 48, 64, annotations, **given)

    rle = {"size": [48, 64], "counts": "abc^`\\"}
    united = [[[0.1, 2.5, 1e-17, 4, 5, 6]], {"size": [48, 64], "counts": [1, 2, 3069]}]
    rows = (("shard-00000.parquet", 7, 2), ("shard-00001.parquet", 0, 1))
    return [
        record("gaps", {i: LabelImage(f"/m/{i:04}.png") for i in (0, 3, 4)}),
        record("objects", {0: ObjectImages({1: "/m/1/0.png", 7: "/m/7/0.png"}), 2: ObjectImages({})}),
        record(
            "segmentations",
            {
                1: Segmentations({3: [rle, {"size": [48, 64], "counts": b"\x00\xff"}]}),
                3: Segmentations({3: united}),
            },
        ),
        record("mixed", {0: LabelImage("/m"), 1: Segmentations({}), 2: ObjectImages({2: "x"})}),
        record(
            "packed images",
            {i: PackedMasks() for i in (0, 2, 4)},
            frame_paths=None,
            packed=PackedVideo("s3://b/d", 2, rows),
        ),
        record(
            "packed file",
            {3: PackedMasks(), 4: LabelImage("/m")},
            frame_paths=None,
            packed=PackedVideo("/d", 16, rows[:1], (".mp4", 12_345), coco=True, video_id="other"),
        ),
        record(
            "extra", {}, extra={"object_names": {1: "cat", 2: None}, "$tuple": [1], "box": (1, (2.5, "a"))}
        ),
    ]


def write_packs() -> dict[str, Any]:
    """One as `sam2vt pack` makes it, one of all kinds, and a table of a mixture with a pack in it."""
    cli.main(["pack", f"{HERE}/videos", "pack", "--segment-frames", "4", "--workers", "1"])
    records = [each for name in TABLES for each in RecordTable(f"tables/{name}.parquet")]
    unique = [replace(each, video_id=f"{place}-{each.video_id}") for place, each in enumerate(records)]
    writer.pack(unique, "pack_kinds", writer.PackOptions(3, 1, "keep"), workers=1)
    sets = [{"data_path": f"{HERE}/pack", "weight": 1.0}, {"data_path": f"{HERE}/kinds/davis", "weight": 1.0}]
    write_records(open_dataset(DatasetConfig(datasets=sets)), "tables/mixture.parquet")
    places = {
        "pack": f"{HERE}/pack",
        "pack_kinds": f"{HERE}/pack_kinds",
        "mixture": f"{HERE}/tables/mixture.parquet",
    }
    return {
        "records": {
            name: masks_of(place) if name == "mixture" else masks_of(place, open_packed(place))
            for name, place in places.items()
        },
        "clips": {
            name: clips_of(place)
            for name, place in [
                *places.items(),
                *((each, f"{HERE}/tables/{each}.parquet") for each in TABLES),
            ]
            if name != "mixture"
        },
    }


def masks_of(path: str, records: Any = None) -> list[Any]:
    records = RecordTable(path) if records is None else records
    return [
        [described(each), described_masks(each, load_masks, load_void, known_objects)] for each in records
    ]


def clips_of(path: str) -> list[Any]:
    """The first epoch's clip of each video."""
    settings = DatasetConfig(data_path=path, image_size=(64, 64), video_clip_length=2)
    dataset = dataset_from_config(settings, seed=3)
    return [described_clip(dataset[SampleKey(0, i)]) for i in range(len(dataset))]


class Stopped(Exception):
    """Raised where an interrupted program would have been killed."""


def write_unfinished() -> dict[str, Any]:
    """A pack and a conversion that were stopped when their last video was done."""

    def stop(*arguments: Any) -> None:
        raise Stopped

    records = load_records("auto", f"{HERE}/videos")
    finish, writer._finish = writer._finish, stop
    targets = dict(converting.TARGETS)
    converting.TARGETS["davis"] = targets["davis"]._replace(join=stop)
    for interrupted in (
        lambda: writer.pack(records, "pack_begun", writer.PackOptions(4), workers=1),
        lambda: convert(records, f"{HERE}/converted", "davis"),
    ):
        try:
            interrupted()
        except Stopped:
            continue
        raise AssertionError("was not stopped")
    writer._finish, converting.TARGETS["davis"] = finish, targets["davis"]
    return {"fingerprint": fingerprint(records)}


def write_base() -> None:
    """Weights that runs start from, in half the bytes: their checkpoints hold only what trains."""
    model = SAM2Model(None, "network.yaml", device="cpu", image_size=64, num_maskmem=3)
    torch.manual_seed(0)
    model.load("cpu")
    torch.save({"model": {k: v.bfloat16() for k, v in model.network.state_dict().items()}}, "base.pt")


def training(folder: str = HERE, network: str = "network.yaml") -> Config:
    config = Config(max_objects=2, seed=7, output_dir="run", on_bad_sample="quarantine")
    config.model.config_path, config.model.checkpoint_path = network, f"{folder}/base.pt"
    config.model.image_size, config.model.max_objects, config.model.num_maskmem = 64, 2, 3
    config.model.trainable_modules = ["memory_attention"]
    config.model.device = "cpu"
    config.dataset.data_path, config.valdataset.data_path = f"{folder}/clips", f"{folder}/videos"
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size, dataset.video_clip_length, dataset.num_workers = (64, 64), 2, 0
    config.dataset.prompt_types = ["mask"]
    config.optimizer.lr = 1e-3
    config.scheduler.warmup_steps, config.scheduler.T_max = 2, 12
    config.trainer.accelerator, config.trainer.devices = "cpu", 1
    config.trainer.max_epochs, config.trainer.max_steps = 4, STEPS
    config.trainer.logger = config.trainer.enable_progress_bar = False
    config.trainer.log_every_n_steps = 1
    config.trainer.num_overlay_videos = 0
    config.trainer.early_stopping_patience = 5
    config.trainer.checkpoint_every_n_steps = 2
    return config


def write_features() -> dict[str, Any]:
    """Features of one video's frames, as `sam2vt cache-features` computes them."""
    config = training()
    config.dataset.data_path, config.dataset.feature_cache = f"{HERE}/kinds/davis", f"{HERE}/features"
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    module.setup()
    folder = data.use_features(module.model)
    assert data.train_dataset is not None
    cache = data.train_dataset.spec.features
    assert cache is not None
    record = data.train_records[0]
    levels = [digest(each) for each in cache.read(record, [1, 3])]
    return {"folder": folder, "levels": levels, "encoder": cache.encoder}


def write_run() -> dict[str, Any]:
    """A run that ends within its second epoch, and how it goes on from each of its checkpoints."""
    train(training())
    for name in ("preview.png", "results.png", "results.svg", "overlays"):
        path = Path("run", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    settle(Path("run"))
    files = sorted(each.name for each in Path("run/checkpoints").glob("step_*.ckpt"))
    return {"evaluated": evaluated("run/checkpoints/last.ckpt")} | {
        name: gone_on("run", name) for name in files
    }


def gone_on(run: str, name: str, change: Callable[[Config], None] = lambda config: None) -> dict[str, Any]:
    """What a run has become after the remaining steps."""
    config = training()
    config.resume, config.output_dir = f"{run}/checkpoints/{name}", "gone_on"
    config.trainer.max_steps = MORE_STEPS
    change(config)
    trainer = train(config)
    state = trainer.lightning_module.state_dict()
    found = {
        "weights": statistics({k: v for k, v in state.items() if "memory_attention" in k}),
        "rows": read_rows(Path("gone_on/results.csv")),
        "clips": [trainer.datamodule.state_dict()[key] for key in ("epoch", "clips", "samples_seen")],
        "quarantined": Path("gone_on/quarantine.jsonl").read_text().splitlines(),
    }
    shutil.rmtree("gone_on")
    return found


def evaluated(checkpoint: str) -> dict[str, list[float]]:
    state = load_model(checkpoint, device="cpu").network.state_dict()
    return statistics({name: state[name] for name in list(state)[::25]})


def write_ray_run() -> dict[str, Any]:
    """The checkpoint of a run on Ray; a local run goes on from it."""
    here, place = Path.cwd(), Path(RAY_FOLDER)
    assert not place.exists(), f"{place} is in the way"
    try:
        place.mkdir(parents=True)
        for name in ("network.yaml", "base.pt", "clips", "videos"):
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy
            copy(name, place / name)
        os.chdir(place)
        config = training(RAY_FOLDER, f"{RAY_FOLDER}/network.yaml")
        config.output_dir = f"{RAY_FOLDER}/run"
        config.ray.num_workers, config.ray.local_cpus = 1, 4
        print(fit(config))
        os.chdir(here)
        Path("ray_run/checkpoints").mkdir(parents=True)
        for path in sorted(Path(place, "run/checkpoints").glob("step_*"))[-2:]:
            shutil.copy(path, "ray_run/checkpoints")
        name = next(path.name for path in Path("ray_run/checkpoints").glob("*.ckpt"))

        def as_there(config: Config) -> None:
            config.model.config_path = f"{RAY_FOLDER}/network.yaml"

        return {name: gone_on("ray_run", name, as_there)}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def write_sweeps() -> dict[str, Any]:
    """Sweeps that were stopped while trials were under way, and how they go on."""
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # so that all processes find what lies below HERE
    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found: dict[str, Any] = {}
    try:
        for name in SWEEPS:
            stop(name, after=3 if name == "pbt" else 7)
            found[name] = {}
        shutil.copytree("sweeps", "sweeps_as_stopped")
        for name in ("asha", "median"):  # under pbt trials of two steps wait for each other without end
            found[name]["trials"] = trials_of(name)
        shutil.rmtree("sweeps")
        os.rename("sweeps_as_stopped", "sweeps")
    finally:
        ray.shutdown()
    for path in Path("sweeps").rglob("*"):
        if path.name.startswith("events.out") or path.name == "progress.csv":
            path.unlink()
        elif path.name == "tuner.pkl":
            path.write_bytes(without_prefix(path.read_bytes()))
    searcher = DefaultFirst(optuna_search(sweep_of("asha"), objectives_of(sweep_of("asha"))))
    searcher.restore(str(next(Path("sweeps/asha/tune").glob("searcher-state-*.pkl"))))
    found["asha"]["next"] = suggestions(searcher, 3)
    return found


def without_prefix(content: bytes) -> bytes:
    """With another folder of the same length instead of Python's, which pickled functions name."""
    prefix = sys.prefix.encode()
    return content.replace(prefix, (b"/usr/lib/" + b"python" * 20)[: len(prefix)])


def stop(name: str, after: int) -> None:
    """Run a sweep, and stop it by a signal when it has heard so often from its trials."""
    update, heard = Watch._update, []

    def update_and_stop(self: Watch, trials: Any) -> None:
        update(self, trials)
        heard.append(True)
        if len(heard) == after:
            os.kill(os.getpid(), signal.SIGTERM)

    Watch._update = update_and_stop  # type: ignore[method-assign]
    try:
        run_sweep(sweep_of(name), Formula)
    except SystemExit:
        return
    finally:
        Watch._update = update  # type: ignore[method-assign]
    raise AssertionError(f"the sweep {name} was over before it was stopped")


def print_sizes() -> None:
    total = 0
    for part in sorted(FIXTURES.iterdir()):
        size = sum(path.stat().st_size for path in [part, *part.rglob("*")] if path.is_file())
        total += size
        print(f"{size:9d} {part.name}")
    print(f"{total:9d} bytes in all")


if __name__ == "__main__":
    main()
