"""What a configuration builds, as plain values that can be compared; nothing repeats the configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from sam2vt import train
from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.core.model import execution
from sam2vt.core.model.sam2 import build_from_config
from sam2vt.core.training.checkpoints.resume import checkpoint_to_resume
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.loss_terms.entries import Step
from sam2vt.core.training.optim import build_optimizer, build_scheduler
from sam2vt.core.training.trainer import SAM2LightningModule
from sam2vt.errors import Sam2vtError

Observe = Callable[[Config], Any]


def plain(value: Any, depth: int = 4) -> Any:
    """Nested containers of texts and numbers; tensors and arrays as digests, objects as what they hold."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = np.asarray(value.detach().float() if isinstance(value, torch.Tensor) else value)
        return (*array.shape, hashlib.sha256(array.tobytes()).hexdigest())
    if isinstance(value, Mapping):
        return {str(key): plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each, depth - 1) for each in value]
    if isinstance(value, (bool, int, float, str, Path, type(None), torch.device)):
        return str(value)
    held = {} if depth <= 0 or isinstance(value, Config) else getattr(value, "__dict__", {})
    return [
        type(value).__name__,
        {key: plain(each, depth - 1) for key, each in held.items() if key[:2] != "__"},
    ]


def clips(config: Config) -> Any:
    """The first batches to train and to validate on, the videos, and how they are loaded."""
    data = SAM2LightningDataModule(config)
    data.setup("fit")
    if config.dataset.feature_cache is not None:
        module = SAM2LightningModule(config)
        module.setup()
        module._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
        module.on_fit_start()
    val, *videos = data.val_dataloader()
    return [
        [_batches(loader) for loader in (data.train_dataloader(), val)],
        [[video.record.video_id, *video.record.frames] for each in videos[::2] for video in each],
        [loader.num_workers for loader in (data.train_dataloader(), val)],
    ]


def _batches(loader: Any) -> Any:
    # Not by the loader itself, which might start processes.
    chosen = islice(loader.batch_sampler, 8)
    return [len(loader)] + [
        plain(loader.collate_fn([loader.dataset[key] for key in keys])) for keys in chosen
    ]


def scored_frames(config: Config) -> Any:
    """How many frames of each object of a validation video count."""
    data, module = SAM2LightningDataModule(config), SAM2LightningModule(config)
    data.setup()
    with mock.patch.object(module, "propagate", return_value=()):
        module._score_video(data.val_records[0], module.val_sets[0])
    return [score.num_frames for score in module.val_sets[0].rows.hold_first]


def network(config: Config) -> Any:
    """The network, what trains of it, its weights, how it runs, and what it says of two frames."""
    torch.manual_seed(0)
    model = build_from_config(config.model).load()
    with mock.patch.object(execution, "compile_parts") as compiling:
        model.compile_parts()
    image = torch.zeros(1, 3, model.image_size, model.image_size, dtype=torch.uint8)
    with torch.no_grad():
        features = model.encode(image).levels[-1]
    mask = torch.ones(model.image_size, model.image_size, dtype=torch.bool)
    tracked = model.propagate([image[0]] * 2, [{"type": "mask", "mask": mask}], 2)
    return [
        [(type(m).__name__, _numbers(m)) for m in model.train().network.modules()],
        [str(m.scaling) for m in model.network.modules() if hasattr(m, "scaling")],  # of adapters
        [name for name, p in model.network.named_parameters() if p.requires_grad],
        plain(next(model.network.parameters())),
        [each.args[1:] for each in compiling.mock_calls],
        {name: value for name, value in vars(model._rules()).items() if name != "click_sampler"},
        plain(features),
        [plain(frame.masks) for frame in tracked],
    ]


def _numbers(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, (bool, int, float))}


def loss(config: Config) -> Any:
    """The loss of fixed masks, with and without the decoder's outputs."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    index = torch.tensor([(0, frame, slot) for frame in range(3) for slot in range(2)])
    masks, targets = draw(1, 3, 2, 8, 8), draw(1, 3, 2, 32, 32) > 0
    targets[0, 1, 0] = False
    step = Step(index, draw(6, 3, 8, 8), draw(6, 3), draw(6, 1))
    torch.manual_seed(0)
    criterion = SAM2TrainingLoss(**to_dict(config.loss))
    return [float(criterion(masks, targets, steps=steps)) for steps in (None, [step])]


class _Parts(nn.Module):
    """Parameters of all kinds under the names that they have in SAM 2's network."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Module()
        self.image_encoder.trunk, self.image_encoder.neck = nn.Module(), nn.Linear(2, 2)
        self.image_encoder.trunk.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.memory_attention = nn.Linear(2, 2)


def steps(config: Config) -> Any:
    """The optimizer, and its learning rates over 40 steps."""
    optimizer = build_optimizer(_Parts(), config.optimizer)
    scheduler = build_scheduler(optimizer, config.scheduler, 40)
    rates = []
    for _ in range(40 if scheduler else 0):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()  # type: ignore[union-attr]
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return [type(optimizer).__name__, groups, [len(g["params"]) for g in optimizer.param_groups], rates]


_OF_TRAINER = (
    *("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches"),
    *("limit_train_batches", "limit_val_batches", "val_check_interval", "check_val_every_n_epoch"),
    *("num_sanity_val_steps", "log_every_n_steps", "num_devices", "default_root_dir", "world_size"),
)


def trainer(config: Config) -> Any:
    """Lightning's trainer, its loggers and callbacks."""
    built = train.create_trainer(config)
    callbacks = [plain(each) for each in built.callbacks]  # type: ignore[attr-defined]
    where = [type(built.accelerator).__name__, [plain(each, 1) for each in built.loggers]]
    return [{name: str(getattr(built, name)) for name in _OF_TRAINER}, where, callbacks]


def resumed(config: Config) -> Any:
    return plain(checkpoint_to_resume(config))


def log_level(config: Config) -> Any:
    package = logging.getLogger("sam2vt")
    before = package.level
    try:
        with mock.patch.object(train, "train"):
            train.hydra_main(OmegaConf.create(to_dict(config)))
        return package.level
    finally:
        package.setLevel(before)


class _Stop(Exception):
    """Ends a worker once its loader was asked for."""


def ray_run(config: Config) -> Any:
    """What Ray is asked for: the session, the storage, the trainer, and the loader of a worker."""
    from sam2vt.distributed import launch
    from sam2vt.distributed.cluster import ray_trainer, session
    from sam2vt.distributed.cluster.storage import run_storage
    from sam2vt.distributed.stream import loader, plan
    from sam2vt.distributed.worker import entry, training

    called = mock.MagicMock()
    storage = run_storage(config)
    planned = plan.plan_stream(config, 8)
    source = mock.MagicMock(plan=planned)
    with (
        mock.patch.dict(os.environ),
        mock.patch.multiple(
            session.ray, init=called.init, is_initialized=lambda: False, shutdown=called.shutdown
        ),
        mock.patch.multiple(launch.ray, put=lambda value: None),
        mock.patch.object(launch, "StreamConfig", called.stream_config),
        mock.patch.object(launch, "NextStream", lambda *given: given[3]),
        mock.patch.object(ray_trainer, "RunTrainer", called.run_trainer),
        mock.patch.object(loader, "StreamLoader", called.loader),
        mock.patch.object(type(storage), "next_attempt", return_value="attempt"),
    ):
        with session.ray_session(config):
            launch._create_trainer(config, storage, source, None, None)  # type: ignore[arg-type]
        called.loader.side_effect = _Stop
        with (
            mock.patch.object(entry.ray, "get", mock.MagicMock()),
            mock.patch.object(entry.ray.train, "get_context", mock.MagicMock()),
            suppress(_Stop),
        ):
            entry.train_on_worker({"config": to_dict(config), "plan": planned, "board": mock.MagicMock()})  # type: ignore[typeddict-item]
    asked = called.run_trainer.call_args.kwargs
    scaling, run = asked["scaling_config"], asked["run_config"]
    return [
        called.init.call_args.kwargs,
        [storage.root, storage.checkpoints, dataclasses.astuple(planned)],
        [scaling.num_workers, scaling.use_gpu, scaling.resources_per_worker, vars(scaling)],
        [run.storage_path, run.name, run.failure_config.max_failures, asked["torch_config"].timeout_s],
        [asked["datasets"], called.stream_config.call_args.args],
        [
            called.loader.call_args.kwargs["prefetch"],
            training.divided_trainer_kwargs(config, plan.Division(planned, 1)),
        ],
    ]


def seen(observe: Observe, config: Config) -> Any:
    """What is observed, or the message of the error that ends it."""
    try:
        return observe(config)
    except Sam2vtError as error:
        return str(error)
