"""What does not go together among the settings that save time or memory."""

from __future__ import annotations

from sam2vt.config import Config
from sam2vt.configuration.report import Report
from sam2vt.configuration.trainable import trains


def check_economy(config: Config, report: Report) -> None:
    """Add the faults of the whole configuration."""
    for check in (_dropout, _encoder_precision, _feature_cache, _recompute, _compiling, _graphs, _measuring):
        check(config, report)


def _dropout(config: Config, report: Report) -> None:
    if config.model.memory_dropout is not None and not trains(config, "memory_attention"):
        report.clash(
            "model.memory_dropout",
            "model.trainable_modules",
            "a frozen memory_attention has no dropout; set it to null",
        )


def _encoder_precision(config: Config, report: Report) -> None:
    name = "model.encoder_precision"
    if config.model.encoder_precision is None:
        return
    if trains(config, "image_encoder"):
        report.clash(
            name,
            "model.trainable_modules",
            "a pattern there may reach into image_encoder; it is for a frozen one, see trainer.precision",
        )
    if config.trainer.precision != "32-true":
        report.clash(
            name, "trainer.precision", "the whole model has less than 32 bits already; set it to null"
        )


def _feature_cache(config: Config, report: Report) -> None:
    """Steps from the cache do not run the encoder."""
    name, model = "dataset.feature_cache", config.model
    if config.dataset.feature_cache is None:
        return
    if trains(config, "image_encoder"):
        report.clash(
            name,
            "model.trainable_modules",
            "a pattern there may reach into image_encoder, whose features then change; name what trains "
            "without it, such as memory_attention, or set dataset.feature_cache=null",
        )
    if model.encoder_precision is not None:
        report.clash(
            "model.encoder_precision", name, "one would train and validate on different features; use one"
        )
    for setting in ("compile", "recompute"):
        if "image_encoder" in getattr(model, setting):
            report.clash(f"model.{setting}", name, "no step runs image_encoder; leave it out")


def _recompute(config: Config, report: Report) -> None:
    if "encoder_blocks" in config.model.recompute and not trains(config, "image_encoder"):
        report.clash(
            "model.recompute",
            "model.trainable_modules",
            "a frozen image_encoder keeps nothing for backward; leave encoder_blocks out",
        )


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


def _measuring(config: Config, report: Report) -> None:
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
