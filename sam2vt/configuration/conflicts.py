"""Find the settings that conflict, and the paths that do not exist.

A setting that has no effect beside another is a fault that names both. Whether it was set at all is told by
comparing it with its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam2vt.config import Config, LossConfig
from sam2vt.configuration.mixture import find_member_faults
from sam2vt.configuration.performance import changed_settings, check_performance
from sam2vt.configuration.reading import Fault, configs_dir
from sam2vt.configuration.report import Report
from sam2vt.configuration.trainable import check_trainable
from sam2vt.settings import settings_of, types_of, walk, wrong_values


def find_faults(config: Config) -> list[Fault]:
    """Return every rule that the configuration breaks: single values first, then conflicts."""
    report = Report(config)
    for check in (
        _sizes,
        _paths,
        _mixture,
        _model,
        check_trainable,
        _data,
        _augment,
        check_performance,
        _validation,
        _optimizer,
        _scheduler,
        _trainer,
        _run,
    ):
        check(config, report)
    return report.faults


def _sizes(config: Config, report: Report) -> None:
    if config.model.max_objects != config.max_objects:
        report.clash("model.max_objects", "max_objects", "must agree; the one at the root holds")
    size = config.model.image_size
    for section in ("dataset", "valdataset"):
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
        if kind == "input":
            return ""
        return "must be a local path: only checkpoints, and packs in data_path, may be a URI; mount the data"
    if not local.exists():
        return f"does not exist (looked in {Path.cwd()})"
    if name == "model.checkpoint_path" and not local.is_file():
        return "is a folder; name the checkpoint file in it"
    return ""


def _network_exists(config_path: str) -> bool:
    spec = find_spec("sam2")  # finds without importing
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    candidates = [Path(config_path).expanduser(), configs_dir() / config_path]
    return any(path.is_file() for path in candidates + [folder / config_path for folder in folders])


def _mixture(config: Config, report: Report) -> None:
    """Report what is wrong with several datasets in place of one, each checked as the whole would be."""
    for section in ("dataset", "valdataset"):
        settings = report.value(section)
        found, faults = find_member_faults(settings, section)
        report.faults += faults
        if settings.datasets and settings.data_path:
            report.clash(f"{section}.data_path", f"{section}.datasets", "give one of them")
        for member in found:
            wrong = [f"{name}={value!r} {text}" for name, value, text in wrong_values(member.settings)]
            wrong += [f"{name}={path!r}: {text}" for name, path, text in _missing_inputs(member.settings)]
            texts = [f"{section}.datasets, {member.name}: {text}" for text in wrong]
            report.faults += [Fault((f"{section}.datasets",), text) for text in texts]


def _model(config: Config, report: Report) -> None:
    model = config.model
    if not model.use_obj_ptrs_in_encoder:
        for name in (
            "add_tpos_enc_to_obj_ptrs",
            "proj_tpos_enc_in_obj_ptrs",
            "use_signed_tpos_enc_to_obj_ptrs",
        ):
            if getattr(model, name):
                report.clash(f"model.{name}", "model.use_obj_ptrs_in_encoder", "needs object pointers")
        report.unused(
            "model.max_obj_ptrs_in_encoder", "model.use_obj_ptrs_in_encoder", "needs object pointers"
        )
    elif model.add_tpos_enc_to_obj_ptrs and model.max_obj_ptrs_in_encoder == 1:
        report.clash(
            "model.max_obj_ptrs_in_encoder",
            "model.add_tpos_enc_to_obj_ptrs",
            "the time code is a share of the longest distance, which is 0 here; take at least 2",
        )
    elif not model.add_tpos_enc_to_obj_ptrs:
        for name in ("proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs"):
            if getattr(model, name):
                report.clash(f"model.{name}", "model.add_tpos_enc_to_obj_ptrs", "needs the time code")
    if model.multimask_output_for_tracking and not model.multimask_output_in_sam:
        report.clash(
            "model.multimask_output_for_tracking", "model.multimask_output_in_sam", "needs several masks"
        )
    _correction(config, report)


def _correction(config: Config, report: Report) -> None:
    if config.model.num_correction_clicks == 0:
        report.unused("model.correction_from_gt", "model.num_correction_clicks", "no clicks are drawn")
    elif set(config.dataset.prompt_types) == {"mask"}:
        report.clash(
            "model.num_correction_clicks",
            "dataset.prompt_types",
            "only objects prompted by points or boxes are corrected; add point or box",
        )


def _data(config: Config, report: Report) -> None:
    for section in ("dataset", "valdataset"):
        _one_dataset(section, report)
    if set(config.dataset.prompt_types) == {"mask"} and config.dataset.video_clip_length == 1:
        report.clash(
            "dataset.prompt_types",
            "dataset.video_clip_length",
            "a mask prompt is its frame's own answer, so nothing is left to learn; use clips of at least 2",
        )


def _one_dataset(section: str, report: Report) -> None:
    data = report.value(section)
    kinds, length = f"{section}.prompt_types", f"{section}.video_clip_length"
    if data.prompt_types and "point" not in data.prompt_types:
        for name in ("num_of_pos_points", "num_of_neg_points", "include_center_point"):
            report.unused(f"{section}.{name}", kinds, "no points are drawn")
    if data.video_clip_length == 1:
        report.unused(f"{section}.frame_stride", length, "a single frame has no stride")
        report.unused(f"{section}.max_frame_stride", length, "a single frame has no stride")
        report.unused(f"{section}.reverse_probability", length, "a single frame has no direction")
    if data.max_frame_stride is not None and data.max_frame_stride < data.frame_stride:
        report.clash(
            f"{section}.max_frame_stride", f"{section}.frame_stride", "it is the longest that is drawn"
        )
    if data.max_conditioning_frames > data.video_clip_length:
        report.clash(f"{section}.max_conditioning_frames", length, "a clip has no more frames than that")
    if data.dataset_type == "video":
        for name in ("identity", "image_root", "allow_absolute_paths"):
            report.unused(f"{section}.{name}", f"{section}.dataset_type", "it is for COCO files")


def _augment(config: Config, report: Report) -> None:
    for name, switch in (
        ("blur_sigma", "blur_probability"),
        ("noise_std", "noise_probability"),
        ("jpeg_quality", "jpeg_probability"),
    ):
        if getattr(config.dataset.augment, switch) == 0:
            report.unused(f"dataset.augment.{name}", f"dataset.augment.{switch}", "no frame is altered so")
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
        report.clash(
            "valdataset.prompt_types",
            "valdataset.video_clip_length",
            "a mask prompt is its frame's own answer, so val/loss has no frame; use clips of at least 2",
        )
    if config.split == "none":
        report.unused("val_fraction", "split", "nothing is held back")
    if not val.is_given:
        for name in ("dataset_type", "identity", "image_root", "allow_absolute_paths", "colours"):
            if getattr(val, name) != getattr(config.dataset, name):
                report.unused(f"valdataset.{name}", "valdataset.data_path", "the training data is used")


def _optimizer(config: Config, report: Report) -> None:
    if config.optimizer.type == "sgd":
        report.unused("optimizer.eps", "optimizer.type", "sgd has no eps")
        if config.optimizer.betas[1] != 0.999:
            report.clash(
                "optimizer.betas", "optimizer.type", "sgd takes betas[0] as momentum, betas[1] has no use"
            )
    if not any(getattr(config.loss, name) > 0 for name in LossConfig.weights()):
        report.fault("loss.bce_weight", f"at least one of {', '.join(LossConfig.weights())} must be above 0")


def _scheduler(config: Config, report: Report) -> None:
    scheduler = config.scheduler
    # Each type with the settings that only it uses; a type that is not allowed is reported on its own.
    own_of = {"cosine": {"T_max", "eta_min"}, "step": {"step_size", "gamma"}, "constant": set[str]()}
    for name in ("T_max", "eta_min", "step_size", "gamma", "warmup_steps"):
        if not scheduler.enabled:
            report.unused(f"scheduler.{name}", "scheduler.enabled", "the learning rate stays as it is")
        elif name != "warmup_steps" and name not in own_of.get(scheduler.type, name):
            report.unused(f"scheduler.{name}", "scheduler.type", "it has no use for it")
    if scheduler.type == "cosine" and scheduler.enabled:
        if scheduler.T_max is not None and scheduler.T_max <= scheduler.warmup_steps:
            report.clash("scheduler.T_max", "scheduler.warmup_steps", "the warm-up must end before T_max")
        if scheduler.eta_min >= config.optimizer.lr:
            report.clash("scheduler.eta_min", "optimizer.lr", "the cosine must end below its start")


def _trainer(config: Config, report: Report) -> None:
    trainer = config.trainer
    if trainer.accelerator == "cpu" and (trainer.devices == -1 or isinstance(trainer.devices, list)):
        report.clash(
            "trainer.devices",
            "trainer.accelerator",
            "the CPU has no indices; give auto or a number of processes",
        )
    if trainer.max_epochs == -1 and trainer.max_steps == -1:
        report.clash("trainer.max_epochs", "trainer.max_steps", "one of them must end the run")
    if trainer.precision == "16-mixed" and trainer.accelerator == "cpu":
        report.clash(
            "trainer.precision", "trainer.accelerator", "fp16 needs a GPU; use bf16-mixed or 32-true"
        )
    if trainer.accelerator == "cpu" and config.ray.use_gpu:
        report.clash("ray.use_gpu", "trainer.accelerator", "must agree")
    if trainer.limit_val_batches == 0:
        for name in ("early_stopping_patience", "val_check_interval", "check_val_every_n_epoch"):
            report.unused(f"trainer.{name}", "trainer.limit_val_batches", "there is no validation")
    elif 0 < trainer.max_epochs < trainer.check_val_every_n_epoch:
        report.clash("trainer.check_val_every_n_epoch", "trainer.max_epochs", "validation would never run")
    if not trainer.enable_checkpointing and config.save_dir not in ("", f"{config.output_dir}/checkpoints"):
        report.clash("save_dir", "trainer.enable_checkpointing", "no checkpoints are written")


def _run(config: Config, report: Report) -> None:
    if config.use_wandb and not config.trainer.logger:
        report.clash("use_wandb", "trainer.logger", "there is no logger; set trainer.logger to true")
    elif config.use_wandb and find_spec("wandb") is None:
        report.fault("use_wandb", "wandb is not installed; `pip install 'sam2vt[wandb]'`")
    if not config.use_wandb:
        report.unused("wandb_project", "use_wandb", "nothing is sent to W&B")
    if config.ray.address is not None:
        report.unused("ray.local_cpus", "ray.address", "no Ray is started on this machine")
