"""Find the settings that conflict, and the paths that do not exist.

A setting without effect because of another is a fault that names both. It counts as set if it differs from
its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam2vt.config import HF_FILES, LOGGER_PACKAGES, NEEDS, READING, TRACKERS, Config, LossConfig
from sam2vt.configuration.mixture import find_member_faults
from sam2vt.configuration.model_conflicts import check_model
from sam2vt.configuration.reading import Fault, configs_dir
from sam2vt.configuration.report import Report, changed_settings
from sam2vt.configuration.valdatasets import find_set_faults
from sam2vt.health.packages import missing
from sam2vt.settings import settings_of, show, types_of, walk, wrong_values

_SECTIONS = ("dataset", "valdataset")


def find_faults(config: Config) -> list[Fault]:
    """Return every rule that the configuration breaks: single values first, then conflicts."""
    report = Report(config)
    of_training = (check_model, _loss, _optimizer, _scheduler, _trainer, _loggers, _run)
    for check in (_needs, *_OF_DATA, _further_sets, *of_training):
        check(config, report)
    return report.faults


def _further_sets(config: Config, report: Report) -> None:
    """Report what is wrong with further validation sets, each checked as `valdataset` is."""
    if not any("valdatasets" in fault.fields for fault in report.faults):
        report.faults += find_set_faults(config, _find_data_faults)


def _find_data_faults(config: Config) -> list[Fault]:
    report = Report(config)
    for check in _OF_DATA:
        check(config, report)
    return report.faults


def _needs(config: Config, report: Report) -> None:
    """Report what is set, or on by default, although the setting that it needs is off."""
    for name, needed in NEEDS.items():
        section, _, own_name = name.rpartition(".")
        value, off = report.value(name), _off(report, needed)
        is_set = value if isinstance(value, bool) else own_name in changed_settings(report.value(section))
        if off and is_set:
            report.clash(name, off, f"{own_name} needs {off}, which is off; change one of them")


def _off(report: Report, needed: str) -> str | None:
    """Return `needed` if it is off, or what is off of all that it needs itself."""
    beyond = _off(report, NEEDS[needed]) if needed in NEEDS else None
    return beyond or (None if report.value(needed) else needed)


def _sizes(config: Config, report: Report) -> None:
    if config.model.max_objects != config.max_objects:
        report.clash("model.max_objects", "max_objects", "must agree; the one at the root holds")
    size = config.model.image_size
    for section in _SECTIONS:
        if report.value(f"{section}.image_size") != (size, size):
            report.clash(f"{section}.image_size", "model.image_size", f"must be equal: [{size}, {size}]")


def _paths(config: Config, report: Report) -> None:
    """Report inputs that do not exist, so that a long start does not end in a missing file."""
    if not config.dataset.is_given:
        report.fault("dataset.data_path", "has to be given: a folder of videos or a COCO JSON")
    for name, _, text in _missing_inputs(config):
        report.fault(name, text)
    if config.model.config_path and not _network_exists(config.model.config_path):
        report.fault(
            "model.config_path",
            "must be a YAML file, a name below configs/ or one inside the sam2 package, such as "
            "configs/sam2.1/sam2.1_hiera_t.yaml; is sam2 installed?",
        )


def _missing_inputs(section: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (name, path, fault) of each unusable input path of a configuration or one of its sections."""
    for name, owner, own_name in walk(section):
        kind, path = settings_of(owner)[own_name].path, getattr(owner, own_name)
        if kind == "input" and path == "" and types_of(owner)[own_name] is not str:
            yield name, path, "must be a path, or null for none"
        elif path and kind in ("input", "local input") and (name, path) != ("resume", "auto"):
            text = _path_fault(name, path, kind)
            if text:
                yield name, path, text


def _path_fault(name: str, path: str, kind: str) -> str:
    local = Path(path).expanduser()
    if "://" in path:
        if kind == "input":  # opened where it is used: a check here would need credentials and a network
            return ""
        return "must be a local path: only checkpoints, and packs in data_path, may be a URI; mount the data"
    if not local.exists():
        return f"does not exist (looked in {Path.cwd()})"
    is_hf_folder = any((local / each).is_file() for each in HF_FILES)
    if name == "model.checkpoint_path" and not local.is_file() and not is_hf_folder:
        return "is a folder; name the checkpoint file in it"
    return ""


def _network_exists(config_path: str) -> bool:
    spec = find_spec("sam2")  # finds without importing
    folders = [Path(), configs_dir(), *map(Path, spec.submodule_search_locations or [] if spec else [])]
    return any((folder / Path(config_path).expanduser()).is_file() for folder in folders)


def _mixture(config: Config, report: Report) -> None:
    """Report what is wrong with several datasets instead of one, each checked as the whole would be."""
    for section in _SECTIONS:
        settings = report.value(section)
        found, faults = find_member_faults(settings, section)
        report.faults += faults
        if settings.datasets and settings.data_path:
            report.clash(f"{section}.data_path", f"{section}.datasets", "give one of them")
        for member in found:
            wrong = [f"{name}={show(value)}: {text}" for name, value, text in wrong_values(member.settings)]
            wrong += [f"{name}={path!r}: {text}" for name, path, text in _missing_inputs(member.settings)]
            texts = [f"{section}.datasets, {member.name}: {text}" for text in wrong]
            report.faults += [Fault((f"{section}.datasets",), text) for text in texts]
        if section == "dataset" and settings.feature_cache is not None:
            sets = [(section, settings), *((f"set {each.name}", each.settings) for each in found)]
            report.faults += [fault for where, each in sets for fault in _cache_faults(where, each.augment)]


def _cache_faults(where: str, augment: Any) -> Iterator[Fault]:
    """A feature cache is exact only where a frame's features are the same at every step."""
    changed, name = ", ".join(changed_settings(augment)), "dataset.feature_cache"
    if changed:
        text = f"{where} alters frames ({changed}), so that each clip has features of its own"
        remedy = f"choose dataset/augment=none, or set {name}=null"
        yield Fault((name, "dataset.augment"), f"{name}: augment of {text}; {remedy}")


def _data(config: Config, report: Report) -> None:
    for section in _SECTIONS:
        _one_dataset(section, report)
    if set(config.dataset.prompt_types) == {"mask"} and config.dataset.video_clip_length == 1:
        text = "a mask prompt is its frame's own answer, so nothing is left to learn; use clips of at least 2"
        report.clash("dataset.prompt_types", "dataset.video_clip_length", text)


def _one_dataset(section: str, report: Report) -> None:
    data, length = report.value(section), f"{section}.video_clip_length"
    if data.prompt_types and "point" not in data.prompt_types:
        points = ("num_of_pos_points", "num_of_neg_points", "include_center_point")
        report.unused(f"{section}.prompt_types", "no points are drawn", *points)
    if data.video_clip_length == 1:
        report.unused(length, "a single frame has no stride", "frame_stride", "max_frame_stride")
        report.unused(length, "a single frame has no direction", "reverse_probability")
    if data.max_frame_stride is not None and data.max_frame_stride < data.frame_stride:
        text = "it is the longest that is drawn"
        report.clash(f"{section}.max_frame_stride", f"{section}.frame_stride", text)
    if data.max_conditioning_frames > data.video_clip_length:
        report.clash(f"{section}.max_conditioning_frames", length, "a clip has no more frames than that")
    if data.dataset_type == "video":
        of_coco = ("identity", "image_root", "allow_absolute_paths")
        report.unused(f"{section}.dataset_type", "it is for COCO files", *of_coco)


def _augment(config: Config, report: Report) -> None:
    given = changed_settings(config.valdataset.augment)
    if given:
        text = f"must be none, has {', '.join(given)}: validation sees the clips as they are"
        report.faults.append(Fault(("valdataset.augment",), f"valdataset.augment: {text}"))


def _validation(config: Config, report: Report) -> None:
    val = config.valdataset
    if val.shuffle:
        report.fault("valdataset.shuffle", "must be false: validation compares the same clips every time")
    own = "valdataset.datasets" if val.datasets else "valdataset.data_path"
    if val.is_given and config.split != "none":
        report.clash(own, "split", "divides the training data; use one of the two")
    if set(val.prompt_types) == {"mask"} and val.video_clip_length == 1 and config.trainer.limit_val_batches:
        text = "a mask prompt is its frame's own answer, so val/loss has no frame; use clips of at least 2"
        report.clash("valdataset.prompt_types", "valdataset.video_clip_length", text)
    if config.split == "none":
        report.unused("split", "nothing is held back", "val_fraction")
    if not val.is_given:
        # As the training set has it, it may also be given here: it is the same data.
        for name in READING:
            if getattr(val, name) != getattr(config.dataset, name):
                report.unused("valdataset.data_path", "the training data is used", name)


_OF_DATA = (_sizes, _paths, _mixture, _data, _augment, _validation)


def _loss(config: Config, report: Report) -> None:
    weights, points, size = LossConfig.weights(), config.loss.num_points, config.model.image_size
    if not any(getattr(config.loss, name) > 0 for name in weights):
        report.fault("loss.bce_weight", f"at least one of {', '.join(weights)} must be above 0")
    if points is not None and config.loss.resolution != "full":
        text = "points are drawn of the full size; set one of the two"
        report.clash("loss.num_points", "loss.resolution", text)
    elif points is not None and points >= size**2:
        text = f"a mask has {size**2} pixels; take fewer points, or null"
        report.clash("loss.num_points", "model.image_size", text)


def _optimizer(config: Config, report: Report) -> None:
    if config.optimizer.type == "sgd":
        report.unused("optimizer.type", "sgd has no eps", "eps")
        if config.optimizer.betas[1] != 0.999:
            text = "sgd takes betas[0] as momentum, betas[1] has no use"
            report.clash("optimizer.betas", "optimizer.type", text)


def _scheduler(config: Config, report: Report) -> None:
    scheduler = config.scheduler
    # Each type with the settings that only it uses; a type that is not allowed is reported on its own.
    own_of = {"cosine": ("T_max", "eta_min"), "step": ("step_size", "gamma")}
    if not scheduler.enabled:
        names = [name for own in own_of.values() for name in own]
        report.unused("scheduler.enabled", "the learning rate stays as it is", *names, "warmup_steps")
        return
    for kind, own in own_of.items():
        if scheduler.type != kind:
            report.unused("scheduler.type", "it has no use for it", *own)
    if scheduler.type == "cosine":
        if scheduler.T_max is not None and scheduler.T_max <= scheduler.warmup_steps:
            report.clash("scheduler.T_max", "scheduler.warmup_steps", "the warm-up must end before T_max")
        if scheduler.eta_min >= config.optimizer.lr:
            report.clash("scheduler.eta_min", "optimizer.lr", "the cosine must end below its start")


def _trainer(config: Config, report: Report) -> None:
    trainer, accelerator = config.trainer, "trainer.accelerator"
    if trainer.accelerator == "cpu":
        if trainer.devices == -1 or isinstance(trainer.devices, list):
            text = "the CPU has no indices; give auto or a number of processes"
            report.clash("trainer.devices", accelerator, text)
        if trainer.precision == "16-mixed":
            report.clash("trainer.precision", accelerator, "fp16 needs a GPU; use bf16-mixed or 32-true")
        if config.ray.use_gpu:
            report.clash("ray.use_gpu", accelerator, "must agree")
    if trainer.max_epochs == -1 and trainer.max_steps == -1:
        report.clash("trainer.max_epochs", "trainer.max_steps", "one of them must end the run")
    if trainer.limit_val_batches != 0 and 0 < trainer.max_epochs < trainer.check_val_every_n_epoch:
        report.clash("trainer.check_val_every_n_epoch", "trainer.max_epochs", "validation would never run")
    if not trainer.enable_checkpointing and config.save_dir not in ("", f"{config.output_dir}/checkpoints"):
        report.clash("save_dir", "trainer.enable_checkpointing", "no checkpoints are written")


def _loggers(config: Config, report: Report) -> None:
    chosen = config.chosen_loggers
    for name in filter(LOGGER_PACKAGES.get, chosen):  # the report names wrong ones
        if (fault := missing(LOGGER_PACKAGES[name])) is not None:
            report.fault("loggers" if name in config.loggers else "use_wandb", fault)
    # Each setting with the loggers that use it.
    used_by = {"wandb_project": ("wandb",), "mlflow_uri": ("mlflow",), "mlflow_experiment": ("mlflow",)}
    for name, users in {**used_by, "group": TRACKERS, "log_checkpoint": TRACKERS}.items():
        if set(users) & set(chosen) or name not in changed_settings(config):
            continue
        other = "loggers" if config.trainer.logger else "trainer.logger"
        report.clash(name, other, f"is for {' and '.join(users)}; add one to loggers, or leave it out")


def _run(config: Config, report: Report) -> None:
    if config.ray.address is not None:
        report.unused("ray.address", "no Ray is started on this machine", "local_cpus")
