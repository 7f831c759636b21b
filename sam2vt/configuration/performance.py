"""Find conflicts between settings that save time or memory."""

from __future__ import annotations

from dataclasses import fields

from sam2vt.config import AugmentConfig, Config
from sam2vt.configuration.mixture import find_member_faults
from sam2vt.configuration.reading import Fault
from sam2vt.configuration.report import Report


def check_performance(config: Config, report: Report) -> None:
    """Report the conflicts of the whole configuration."""
    for check in (_encoder, _cached_features, _augmented_cache, _compiling, _graphs, _loss_points):
        check(config, report)


def _encoder(config: Config, report: Report) -> None:
    name = "model.encoder_precision"
    if config.model.encoder_precision is None:
        return
    if config.trainer.precision != "32-true":
        report.clash(
            name, "trainer.precision", "the whole model has less than 32 bits already; set it to null"
        )
    if config.dataset.feature_cache is not None:
        report.clash(
            name, "dataset.feature_cache", "one would train and validate on different features; use one"
        )


def _cached_features(config: Config, report: Report) -> None:
    """Steps from the cache do not run the encoder."""
    if config.valdataset.feature_cache is not None:
        report.fault("valdataset.feature_cache", "must be null: validation reads images")
    if config.dataset.feature_cache is None:
        return
    for setting in ("compile", "recompute"):
        if "image_encoder" in getattr(config.model, setting):
            report.clash(
                f"model.{setting}", "dataset.feature_cache", "no step runs image_encoder; leave it out"
            )


def _augmented_cache(config: Config, report: Report) -> None:
    """A cache is exact only where a frame's features are the same at every step."""
    name = "dataset.feature_cache"
    if config.dataset.feature_cache is None:
        return
    found, _ = find_member_faults(config.dataset, "dataset")
    sets = [("dataset", config.dataset), *((f"set {each.name}", each.settings) for each in found)]
    for where, settings in sets:
        changed = changed_settings(settings.augment)
        if changed:
            text = f"{where} alters frames ({', '.join(changed)}), so that each clip has features of its own"
            remedy = f"choose dataset/augment=none, or set {name}=null"
            report.faults.append(Fault((name, "dataset.augment"), f"{name}: augment of {text}; {remedy}"))


def changed_settings(augment: AugmentConfig) -> list[str]:
    """Return the settings that are not at their defaults."""
    plain = AugmentConfig()
    return [f.name for f in fields(augment) if getattr(augment, f.name) != getattr(plain, f.name)]


def _compiling(config: Config, report: Report) -> None:
    model = config.model
    if "memory_attention" not in model.compile:
        report.unused("model.pad_memory", "model.compile", "is for a compiled memory_attention")
    elif model.cuda_graphs and not model.pad_memory:
        report.clash(
            "model.cuda_graphs",
            "model.pad_memory",
            "each frame's memory has a shape of its own, which would be a graph of its own; pad it",
        )


def _graphs(config: Config, report: Report) -> None:
    name = "model.cuda_graphs"
    if not config.model.cuda_graphs:
        return
    if not config.model.compile:
        report.unused(name, "model.compile", "replays compiled parts")
    elif config.trainer.accelerator in ("cpu", "mps"):
        report.clash(name, "trainer.accelerator", "needs a CUDA GPU")
    elif config.trainer.accumulate_grad_batches > 1:
        report.clash(
            name,
            "trainer.accumulate_grad_batches",
            "a step's gradients lie where the next step's are written; use dataset.batch_size",
        )
    elif not isinstance(config.ray.num_workers, int):
        report.clash(
            name,
            "ray.num_workers",
            "fewer workers accumulate gradients over several batches; give one number",
        )


def _loss_points(config: Config, report: Report) -> None:
    points, size = config.loss.num_points, config.model.image_size
    if points is None:
        return
    if config.loss.resolution != "full":
        report.clash(
            "loss.num_points", "loss.resolution", "points are drawn of the full size; set one of the two"
        )
    elif points >= size**2:
        report.clash(
            "loss.num_points", "model.image_size", f"a mask has {size**2} pixels; take fewer points, or null"
        )
