"""Check the settings of a sweep against the configuration that it varies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, NamedTuple, cast

from sam2vt.config import OBJECTIVES, Config, SweepConfig
from sam2vt.configuration.loading import from_dict, load_config
from sam2vt.configuration.names import nearest, type_of
from sam2vt.configuration.reading import convert, plain, read
from sam2vt.configuration.sweep_space import Dimension, Space, read_space
from sam2vt.errors import ConfigError
from sam2vt.settings import show, types_of, value_at, wrong_values

# Folders, devices and logging: the same for every trial, or chosen by the sweep itself.
_OF_TRAINER = ("accelerator", "devices", "enable_checkpointing", "enable_progress_bar")
_PLACES = (
    *("output_dir", "save_dir", "resume", "name", "log_level", "style", "on_bad_sample"),
    *("loggers", "use_wandb", "wandb_project", "mlflow_uri", "mlflow_experiment", "group", "log_checkpoint"),
    *(f"trainer.{name}" for name in _OF_TRAINER),
)
_DATA = [f"dataset.{name}" for name in ("data_path", "datasets", "image_root", "dataset_type", "identity")]
# Settings that choose the videos which J and F are measured on.
_JUDGES = ("split", "val_fraction", "trainer.limit_val_batches")
# Settings that may change in the middle of a run: its weights still fit.
PERTURBED = ("loss.", "optimizer.lr", "optimizer.weight_decay")


class Sweep(NamedTuple):
    """A sweep that can be run."""

    settings: SweepConfig
    space: Space
    base: BaseConfig


@dataclass(frozen=True)
class BaseConfig:
    """A composed configuration with unresolved references such as `${max_objects}`, which follow changes."""

    content: Mapping[str, Any]

    def changed(self, values: Mapping[str, Any]) -> BaseConfig:
        """Return the configuration with other `values`, by dotted names."""
        from omegaconf import OmegaConf

        content: Any = OmegaConf.create(dict(self.content))
        for name, value in values.items():
            OmegaConf.update(content, name, list(value) if isinstance(value, tuple) else value, merge=False)
        return BaseConfig(cast(Any, OmegaConf.to_container(content, resolve=False)))

    def mapping(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration with other `values`, resolved."""
        from omegaconf import OmegaConf

        return plain(OmegaConf.create(dict(self.changed(values).content)))

    def unswept(self) -> Config:
        """Return the configuration itself, which `load_sweep` has checked."""
        return from_dict(self.mapping({}))

    def config(self, values: Mapping[str, Any]) -> Config:
        """Return the configuration with other `values`, checked. Raises ConfigError if they conflict."""
        return load_config(self.mapping(values))


def load_sweep(composed: Any) -> Sweep:
    """Return the sweep of a composed configuration, and the configuration that it varies.

    Raises one ConfigError with every fault of either.
    """
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(composed, resolve=False)
    given = content.pop("sweep", None)
    if given is None:
        raise ConfigError("no sweep was named; give sweep=joint or another of configs/sweep")
    config = BaseConfig(content).config({})
    # Hydra alone knows the time in a folder's name, and trials run without Hydra.
    base = BaseConfig({**content, "output_dir": config.output_dir})
    settings, found = read(SweepConfig, plain(OmegaConf.create(given)), "sweep.")
    faults = [fault.text for fault in found]
    faults += [f"sweep.{name}={show(value)}: {text}" for name, value, text in wrong_values(settings)]
    faults += _objective_faults(settings.objectives)

    # Below a mapping, as of ray.worker_resources, there are no attributes: such settings have no default.
    space, wrong = read_space(settings.space, _convert_named, lambda name: value_at(config, name))
    faults += wrong
    if not wrong:
        faults += _space_faults(settings, space, config, base)
    if faults:
        raise ConfigError.listing("the sweep", faults)
    return Sweep(settings, space, base)


def _objective_faults(objectives: list[str]) -> Iterator[str]:
    allowed = ", ".join(OBJECTIVES)
    if len(objectives) not in (1, 2) or len(set(objectives)) != len(objectives):
        yield f"sweep.objectives={objectives}: must be one or two different ones of {allowed}"
    for name in objectives:
        if name in OBJECTIVES:
            continue
        why = "; losses cannot be compared where their weights vary" if "loss" in name else ""
        if name.count("/") == 2:  # of a further set
            why = (
                "; a trial is judged by its best validation, which on a further set may be that of the least "
                "training; name its data in valdataset, or compare val/* in each trial's results.csv"
            )
        yield f"sweep.objectives: {name!r} is nothing to compare trials by; allowed are {allowed}{why}"


def _space_faults(settings: SweepConfig, space: Space, config: Config, base: BaseConfig) -> list[str]:
    faults = [fault for dimension in space.dimensions for fault in _name_faults(dimension.name, config)]
    if not space.dimensions:
        faults.append("sweep.space: is empty; name at least one setting to vary")
    if config.save_dir not in ("", f"{config.output_dir}/checkpoints"):
        faults.append(f"save_dir={config.save_dir}: each trial keeps its checkpoints in a folder of its own")
    if config.resume not in (None, "auto"):
        faults.append(f"resume={config.resume}: a sweep is resumed by resume=auto and its own output_dir")
    if config.trainer.limit_val_batches == 0:
        text = "trials are compared by validations, of which there are none"
        faults.append(f"trainer.limit_val_batches=0: {text}")
    if settings.algorithm == "grid":
        faults += _grid_faults(settings, space)
    if settings.scheduler == "pbt":
        faults += _pbt_faults(settings, space, config)
    if not faults:
        faults += [fault for dimension in space.dimensions for fault in _value_faults(dimension, space, base)]
    return faults


def _name_faults(name: str, config: Config) -> Iterator[str]:
    """Settings that may not differ between trials."""
    if name in _PLACES or name.startswith("ray."):
        yield f"sweep.space.{name}: says where a run is stored or runs, not what it learns; leave it out"
    judged = name in _JUDGES or name.startswith(("valdataset.", "valdatasets"))
    judged = judged or (name in _DATA and not config.valdataset.is_given)
    if judged or (name == "seed" and config.split != "none" and not config.valdataset.is_given):
        yield f"sweep.space.{name}: changes what J and F are measured on: trials could not be compared"


def _grid_faults(settings: SweepConfig, space: Space) -> Iterator[str]:
    counts = {each.name: each.num_points for each in space.dimensions}
    uncounted = [name for name, count in counts.items() if count is None]
    for name in uncounted:
        yield f"sweep.space.{name}: a grid needs countable values; give choice, integer or a step"
    number = math.prod(count or 1 for count in counts.values())
    if not uncounted and number + 1 > settings.num_trials:
        product = " x ".join(f"{count} ({name})" for name, count in counts.items())
        yield (
            f"sweep.algorithm=grid: {product} = {number} points and the unswept default make up to "
            f"{number + 1} trials, but sweep.num_trials={settings.num_trials}; raise it, or take fewer values"
        )


def _pbt_faults(settings: SweepConfig, space: Space, config: Config) -> Iterator[str]:
    """Population based training changes values in the middle of a run."""
    if len(settings.objectives) > 1:
        yield "sweep.objectives: pbt follows a single one; name one, or take sweep.scheduler=asha"
    if settings.num_trials < 3:
        yield f"sweep.num_trials={settings.num_trials}: pbt needs at least 3, the unswept one included"
    for each in space.dimensions:
        if not each.name.startswith(PERTURBED):
            allowed = "loss weights, optimizer.lr and optimizer.weight_decay"
            yield f"sweep.space.{each.name}: cannot change in the middle of a run; pbt takes {allowed}"
        elif each.kind not in ("uniform", "log_uniform") or each.alternatives or each.when or each.step:
            yield f"sweep.space.{each.name}: pbt moves values up and down; give uniform or log_uniform alone"
        elif each.name == "optimizer.weight_decay" and each.values[0] == 0:
            yield "sweep.space.optimizer.weight_decay: pbt moves it up and down, so it must begin above 0"
    if "optimizer.lr" in space.fields and config.optimizer.encoder_lr is not None:
        remedy = "set it to null (optimizer.layer_decay slows the encoder down)"
        text = f"pbt varies optimizer.lr, and the encoder has to follow it; {remedy}"
        yield f"optimizer.encoder_lr={config.optimizer.encoder_lr}: {text}"


def _value_faults(dimension: Dimension, space: Space, base: BaseConfig) -> Iterator[str]:
    """Samples of it, each tried alone; faults that another swept setting may mend are left to the trial."""
    needed = {name: allowed[0] for name, allowed in dimension.when.items()}
    mendable = set(space.fields) - needed.keys() - {dimension.name}
    for value in dimension.samples:
        try:
            base.config({**needed, dimension.name: value})
        except ConfigError as error:
            lines = error.faults or [str(error)]
            found = [line for line in lines if not any(name in line.split(":")[0] for name in mendable)]
            if found:
                yield f"sweep.space.{dimension.name}: {'; '.join(found)}"
                return


def _convert_named(name: str, value: Any) -> tuple[Any, list[str]]:
    """Return `value` as the type of the setting `name`, and the faults."""
    kind = type_of(name)
    if kind is None:
        meant = nearest(name)
        return None, [f"{name} is no setting{f', did you mean {meant}?' if meant else ''}"]
    if is_dataclass(kind):
        return None, [f"{name} is a group of settings; name one of them: {', '.join(types_of(kind))}"]
    converted, faults = convert(value, kind, name)
    return converted, [fault.text for fault in faults]
