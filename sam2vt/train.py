"""Training from a configuration: `sam2vt train`, or `train(config)` from Python.

Heavy packages are imported where they are used: composing and checking a configuration takes no torch.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vt.composing import HYDRA_VERSION_BASE, load_overrides, usable_overrides
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config, to_dict, validate
from sam2vt.configuration.reading import configs_dir
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.storage.fetching import pinned
from sam2vt.core.training.loggers import build_loggers, check_store
from sam2vt.core.training.slurm import check_ranks, slurm_arguments
from sam2vt.errors import ConfigError, exit_on_error
from sam2vt.health.devices import has_gpu_driver
from sam2vt.imports import importing
from sam2vt.logs import is_first_rank, opening_line, quiet_lightning
from sam2vt.logs import setup_logging as setup_logging
from sam2vt.run_folder import alone_in, own_run_folder, warn_of_new_folder

if TYPE_CHECKING:
    import lightning as L
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def train(config: Config | Mapping[str, Any]) -> L.Trainer:
    """Train as configured and return the trainer; the run is written to `config.output_dir`.

    A nested mapping is read by `load_config`.

    Raises ConfigError, DataError or CheckpointError for what the user gave, TrainingError where the
    training had to stop. After SIGTERM, Ctrl-C or SIGHUP it saves and raises SystemExit with code 143, 130
    or 129.
    """
    check_ranks()
    config = validate(config)
    setup_logging(config.log_level)
    check_gpu(config)
    if is_first_rank():
        log.info("%s", opening_line(config))
        check_store(config)
    # DDP's own warning of an option that our batches do need; read when torch is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with alone_in(config.output_dir):
        return _train(with_pinned_weights(config))


def _train(config: Config) -> L.Trainer:
    with importing():
        import lightning as L
        from lightning.pytorch.callbacks import LambdaCallback

        from sam2vt.core.data.workers import explained_workers
        from sam2vt.core.training.callbacks.stopping import stop_on_signals
        from sam2vt.core.training.checkpoints.restoring import resume_kwargs
        from sam2vt.core.training.checkpoints.resume import checkpoint_to_resume
        from sam2vt.core.training.footprint.out_of_memory import explain_out_of_memory
        from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
        from sam2vt.run_summary import end_of_run

    resume = checkpoint_to_resume(config)
    path, content = (None, None) if resume is None else (resume.path, resume.content)
    L.seed_everything(config.seed, workers=True, verbose=False)
    data = SAM2LightningDataModule(config)
    module = SAM2LightningModule(config)
    trainer = create_trainer(config)
    if trainer.is_global_zero:
        # Not before the data has passed: a refused run must leave the settings of an earlier one.
        written = LambdaCallback(on_fit_start=lambda *_: write_config(config))
        trainer.callbacks.append(written)  # type: ignore[attr-defined]
    workers = explained_workers(config.dataset.num_workers)
    try:
        with stop_on_signals(trainer), explain_out_of_memory(config), workers:
            trainer.fit(module, datamodule=data, **resume_kwargs(path, trainer, content))
    except SystemExit:
        if trainer.is_global_zero:
            command = shlex.join(["sam2vt", "train", f"resume={config.output_dir}"])
            log.warning("stopped at step %d; continue with: %s", trainer.global_step, command)
        raise
    if trainer.is_global_zero:
        places = (str(Path(each).absolute()) for each in (config.output_dir, config.checkpoint_dir))
        log.info("done\n\n%s", end_of_run(trainer, module, *places))
    return trainer


def check_gpu(config: Config) -> None:
    """Raise ConfigError for a GPU that this machine cannot have: without torch, which takes seconds to load.

    Where the driver of one is there, Lightning judges.
    """
    accelerator = config.trainer.accelerator
    if accelerator in ("gpu", "cuda") and not has_gpu_driver():
        raise ConfigError(
            f"trainer.accelerator={accelerator!r}: this machine has no driver of a GPU. Give trainer=cpu to "
            f"train without one, or install the driver: nvidia-smi then lists the GPU"
        )


def with_pinned_weights(config: Config) -> Config:
    """Return the configuration with the commit of weights on the hub, so that all ranks load the same.

    Raises CheckpointError where the hub does not answer.
    """
    path = config.model.checkpoint_path
    if not path or (fixed := pinned(path)) == path:
        return config
    return replace(config, model=replace(config.model, checkpoint_path=fixed))


def create_trainer(
    config: Config, callbacks: Sequence[L.Callback] | L.Callback | None = None, **replaced: Any
) -> L.Trainer:
    """Return Lightning's Trainer as configured, with the default callbacks and `callbacks`, one or several.

    One of the same kind as a default one takes its place. `replaced` takes the place of the configured
    arguments of the same names. Raises ConfigError where this machine lacks what the configuration asks for.
    """
    import lightning as L

    from sam2vt.core.training.callbacks import default_callbacks

    further = [callbacks] if isinstance(callbacks, L.Callback) else callbacks or ()
    return build_trainer(config, default_callbacks(config, further), **replaced)


def build_trainer(config: Config, callbacks: Sequence[L.Callback], **replaced: Any) -> L.Trainer:
    """Return a Trainer as `create_trainer` does, with these callbacks alone, as in a Ray worker."""
    import lightning as L
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    quiet_lightning(config.log_level)
    arguments = {**trainer_kwargs(config), **replaced}
    try:
        trainer = L.Trainer(callbacks=list(callbacks), **arguments)
    except (MisconfigurationException, ValueError, TypeError) as error:
        asked = ", ".join(f"trainer.{name}={arguments[name]!r}" for name in ("accelerator", "devices"))
        raise ConfigError(
            f"{asked}: {error}; allowed is what this machine has: trainer=cpu trains on the CPU, "
            f"trainer.accelerator=auto on the best that there is"
        ) from error
    cpus = os.cpu_count() or 1
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cpus:
        raise ConfigError(
            f"trainer.devices={arguments['devices']!r}: would start {trainer.num_devices} processes on a "
            f"machine of {cpus} CPUs, where each more only slows down the others; set it to at most {cpus}"
        )
    if trainer.precision != arguments["precision"]:  # Lightning replaces what a device cannot do
        asked, accelerator = arguments["precision"], arguments["accelerator"]
        raise ConfigError(
            f"trainer.precision={asked!r} with trainer.accelerator={accelerator!r}: fp16 needs a GPU, this "
            f"would train in {trainer.precision} on {trainer.strategy.root_device}; use bf16-mixed or 32-true"
        )
    return trainer


def trainer_kwargs(config: Config) -> dict[str, Any]:
    """Return the configuration as arguments of Lightning's Trainer, all but the callbacks.

    A Ray worker replaces accelerator, devices and strategy by its own.
    """
    settings = to_dict(config.trainer)
    for name in ("early_stopping_patience", "num_overlay_videos", "checkpoint_every_n_steps", "keep_best"):
        del settings[name]  # the callbacks'
    settings |= slurm_arguments(config.trainer)
    return {
        **settings,
        "gradient_clip_val": config.trainer.gradient_clip_val or None,
        "logger": build_loggers(config) or False,
        "strategy": _strategy(settings["devices"], config.trainer.accelerator),
        "default_root_dir": config.output_dir,
        "use_distributed_sampler": False,  # our sampler divides the clips itself
        "enable_model_summary": False,  # the table of what trains says more
    }


def write_config(config: Config) -> Path:
    """Write the resolved configuration into the run folder, and return the file."""
    from omegaconf import OmegaConf

    path = Path(config.output_dir) / "config.yaml"
    with write_whole(path) as written:
        OmegaConf.save(OmegaConf.create(to_dict(config)), written)
    return path


def hydra_main(cfg: DictConfig) -> None:
    """Train from a composed configuration; under Hydra the run folder is Hydra's."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    if HydraConfig.initialized():
        warn_of_new_folder(cfg)
        with open_dict(cfg):
            # The same in all processes of a run, which a time in the name would not be.
            cfg.output_dir = HydraConfig.get().runtime.output_dir
    config = load_config(cfg)
    setup_logging(config.log_level)
    train(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run under Hydra with `arguments`, by default the command line's.

    Ends with exit code 2 where the configuration or the data cannot be used, 3 where training failed.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    command, started = list(sys.argv), []

    def task(cfg: DictConfig) -> None:
        started.append(True)
        sys.argv = command  # Lightning starts further processes by repeating the whole command
        with exit_on_error():
            hydra_main(cfg)

    GlobalHydra.instance().clear()
    given = command[1:] if arguments is None else list(arguments)
    run = hydra.main(str(configs_dir()), "config", HYDRA_VERSION_BASE)
    try:
        with exit_on_error():
            if not any(each.startswith("-") for each in given):
                # Raises before there is a folder, and in our words, not Hydra's.
                check_gpu(load_overrides(given, takes_options=True))
            with own_run_folder(given) as placed, usable_overrides(placed) as (known, faults):
                if faults:
                    load_overrides(given, takes_options=True)  # raises, with the faults of the rest
                sys.argv = [command[0], *known]
                run(task)()
    except SystemExit as end:
        # Hydra ends with 1 and has said why; before the task began, the overrides were at fault.
        raise SystemExit(2 if end.code == 1 and not started else end.code) from None
    finally:
        sys.argv = command


# Which parameters a batch leaves unused depends on its kinds of prompt. Gradients are views of DDP's buckets,
# so that they are not stored twice.
DDP_OPTIONS = {"find_unused_parameters": True, "gradient_as_bucket_view": True}


def _strategy(devices: Any, accelerator: str) -> Any:
    """Return Lightning's choice for one device, DDP for several."""
    import torch
    from lightning.pytorch.strategies import DDPStrategy

    if devices in ("auto", -1):
        several = accelerator not in ("cpu", "mps") and torch.cuda.device_count() > 1
    else:
        several = (len(devices) if isinstance(devices, (list, tuple)) else devices) > 1
    return DDPStrategy(**DDP_OPTIONS) if several else "auto"  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
