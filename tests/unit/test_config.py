"""Reading and checking the configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from omegaconf import OmegaConf

from sam2vt.config import ADAPTED_PARTS, NEEDS, Config, DatasetConfig, ModelConfig, OptimizerConfig
from sam2vt.configuration import model_conflicts
from sam2vt.configuration.loading import from_dict, load_config, to_dict, validate
from sam2vt.configuration.names import setting_names
from sam2vt.configuration.reading import configs_dir
from sam2vt.errors import ConfigError
from sam2vt.settings import one_of, settings_of, types_of, value_at, walk


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A configuration without faults, as plain containers."""
    config = Config()
    config.dataset.data_path = str(tmp_path)
    return to_dict(config)


def change(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        *parents, last = name.split(".")
        node = settings
        for parent in parents:
            node = node[parent]
        node[last] = value
    return settings


def faults(settings: dict[str, Any]) -> list[str]:
    """The lines of the message, one per fault; none where the configuration is right."""
    try:
        load_config(settings)
    except ConfigError as error:
        return str(error).splitlines()[1:]
    return []


def test_defaults_lack_the_data_only() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Config())
    assert str(caught.value).splitlines() == [
        "the configuration has 1 fault:",
        "  - dataset.data_path='': has to be given: a folder of videos or a COCO JSON",
    ]


def test_to_dict_is_plain_and_goes_back(settings: dict[str, Any]) -> None:
    assert settings["dataset"]["image_size"] == [512, 512]
    assert settings["optimizer"]["betas"] == [0.9, 0.999]
    config = from_dict(settings)
    assert config.dataset.image_size == (512, 512)
    assert to_dict(config) == settings
    assert load_config(OmegaConf.create(settings)) == config


def test_from_dict_does_not_look_at_values_or_paths() -> None:
    config = from_dict({"dataset": {"data_path": "/not/on/this/machine"}, "max_objects": 5})
    assert (config.dataset.data_path, config.max_objects) == ("/not/on/this/machine", 5)
    with pytest.raises(ConfigError, match=r"max_objects='five': must be an integer"):
        from_dict({"max_objects": "five"})


def test_omegaconf_reads_the_dataclasses() -> None:
    assert OmegaConf.to_object(OmegaConf.structured(Config)) == Config()


def test_tuples_are_made_from_lists_and_have_two_numbers() -> None:
    assert DatasetConfig(image_size=[64, 64]).image_size == (64, 64)  # type: ignore[arg-type]
    assert OptimizerConfig(betas=[0.5, 0.9]).betas == (0.5, 0.9)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="image_size"):
        DatasetConfig(image_size=(64,))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="betas"):
        OptimizerConfig(betas=(0.9, 0.99, 0.999))  # type: ignore[arg-type]


def test_all_faults_come_in_one_message(settings: dict[str, Any]) -> None:
    change(
        settings,
        {
            "optimizer.lr": -1.0,
            "optimizer.typ": "adamw",
            "max_objects": "three",
            "trainer.precision": "fp8",
            "dataset.data_path": "/does/not/exist",
            "model.checkpoint_path": "/nor/this.pt",
        },
    )
    found = faults(settings)
    assert len(found) == 6
    for name in ("optimizer.lr", "optimizer.typ", "max_objects", "trainer.precision", "dataset.data_path"):
        assert sum(line.startswith(f"  - {name}") for line in found) == 1
    assert "did you mean optimizer.type?" in "\n".join(found)


WRONG_TYPES = [
    ("model", 3, "a mapping"),
    ("model.num_maskmem", 7.0, "an integer"),
    ("model.num_maskmem", True, "an integer"),
    ("model.use_obj_ptrs_in_encoder", 1, "true or false"),
    ("model.trainable_modules", "memory_attention", "a list of strings"),
    ("model.trainable_modules", [1], "a list of strings"),
    ("dataset.image_size", [512], "a list of 2 integers"),
    ("dataset.image_size", [512.0, 512.0], "a list of 2 integers"),
    ("dataset.data_path", None, "a string"),
    ("model.lora", 8, "a mapping"),
    ("model.lora.rank", 8.5, "an integer"),
    ("model.lora.targets", "image_encoder", "a list"),
    ("model.ema", 0.999, "a mapping"),
    ("model.ema.decay", "0.999", "without quotes"),
    ("model.ema.start_step", 1.5, "an integer"),
    ("dataset.augment", "sam2", "a mapping"),
    ("dataset.augment.scale", [1.0], "a list of 2 numbers"),
    ("dataset.augment.jpeg_quality", [30.5, 90], "a list of 2 integers"),
    ("dataset.augment.degrees", None, "a number"),
    ("optimizer.lr", "1e-4", "without quotes"),
    ("optimizer.betas", [0.9, "0.99"], "a list of 2 numbers"),
    ("trainer.max_epochs", None, "an integer"),
    ("output_dir", "???", "has to be given"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG_TYPES)
def test_wrong_types(settings: dict[str, Any], name: str, value: Any, expected: str) -> None:
    found = faults(change(settings, {name: value}))
    assert any(line.startswith(f"  - {name}") and expected in line for line in found), found


def test_colours_are_lists_of_numbers_by_class(settings: dict[str, Any]) -> None:
    settings["dataset"]["colours"] = {"cat": [1, 2, 3]}
    assert load_config(settings).dataset.colours == {"cat": [1, 2, 3]}
    for wrong in ([1, 2, 3], {"cat": 1}, {"cat": ["red"]}):
        settings["dataset"]["colours"] = wrong
        with pytest.raises(ConfigError, match="dataset.colours=.*must be a mapping of names to lists of"):
            load_config(settings)


def test_an_integer_is_a_number_and_stays_one(settings: dict[str, Any]) -> None:
    config = load_config(change(settings, {"trainer.limit_train_batches": 1, "optimizer.lr": 1}))
    assert type(config.trainer.limit_train_batches) is int
    assert config.optimizer.lr == 1


def test_a_structured_configuration_keeps_integers(settings: dict[str, Any]) -> None:
    """OmegaConf makes 1.0, all of an epoch, of 1, a batch, where a field is a float alone."""
    structured = OmegaConf.structured(Config)
    both = [name for name, owner, own in walk(Config) if {int, float} <= set(get_args(types_of(owner)[own]))]
    assert len(both) == 3
    for name in both:
        OmegaConf.update(structured, name, 1)
        assert type(OmegaConf.select(structured, name)) is int
        OmegaConf.update(structured, name, 0.5)
        assert OmegaConf.select(structured, name) == 0.5


def test_no_float_means_something_else_than_the_integer(settings: dict[str, Any]) -> None:
    floats = [(owner, own) for _, owner, own in walk(Config) if types_of(owner)[own] is float]
    assert len(floats) > 20
    for owner, own in floats:
        fits = settings_of(owner)[own].allowed.fits
        assert [fits(n) for n in (0, 1, 2)] == [fits(n) for n in (0.0, 1.0, 2.0)], own


def test_the_run_folder_follows_the_name() -> None:
    assert Config(name="mine").output_dir == "runs/mine"
    assert Config(name="mine", output_dir="elsewhere").output_dir == "elsewhere"


WRONG_VALUES = [
    ("model.trainable_modules", []),
    ("model.trainable_modules", [""]),
    ("model.adapter", "lora"),
    ("model.lora.rank", 0),
    ("model.lora.rank", -1),
    ("model.lora.alpha", 0.0),
    ("model.lora.dropout", 1.0),
    ("model.lora.targets", []),
    ("model.lora.targets", [""]),
    ("model.ema.decay", 0.0),
    ("model.ema.decay", 1.0),
    ("model.ema.decay", 1.5),
    ("model.ema.decay", -0.1),
    ("model.ema.decay", float("nan")),
    ("model.ema.start_step", -1),
    ("model.speedups", "all"),
    ("model.device", "gpu"),
    ("model.device", "cuda:one"),
    ("model.num_maskmem", 0),
    ("model.backbone_stride", 8),
    ("model.max_obj_ptrs_in_encoder", 0),
    ("model.num_correction_clicks", -1),
    ("model.checkpoint_path", ""),
    ("model.config_path", "configs/sam2.1/no_such_network.yaml"),
    ("dataset.dataset_type", "davis"),
    ("dataset.video_clip_length", 0),
    ("dataset.batch_size", 0),
    ("dataset.num_workers", -1),
    ("dataset.prompt_types", []),
    ("dataset.prompt_types", ["scribble"]),
    ("dataset.prompt_types", ["mask", "mask"]),
    ("dataset.prompt_types", ["box", "bbox"]),
    ("dataset.image_root", "https://host/frames"),
    ("valdataset.image_root", "gs://bucket/frames"),
    ("model.checkpoint_path", "/"),
    ("dataset.num_of_pos_points", 0),
    ("dataset.identity", "track"),
    ("dataset.augment.flip_probability", 1.1),
    ("dataset.augment.degrees", -5.0),
    ("dataset.augment.crop_area", [0.9, 0.5]),
    ("dataset.augment.hue", 0.6),
    ("dataset.image_root", "/does/not/exist"),
    ("dataset.image_size", [512, 256]),
    ("valdataset.data_path", "/does/not/exist"),
    ("valdataset.shuffle", True),
    ("loss.dice_weight", -0.1),
    ("loss.smooth", 0.0),
    ("loss.bce_weight", float("nan")),
    ("optimizer.type", "lion"),
    ("optimizer.lr", 0),
    ("optimizer.lr", float("inf")),
    ("optimizer.betas", [0.9, 1.0]),
    ("optimizer.encoder_lr", 0.0),
    ("optimizer.layer_decay", 1.5),
    ("scheduler.type", "poly"),
    ("scheduler.T_max", 0),
    ("scheduler.gamma", 0.0),
    ("trainer.accelerator", "tpu"),
    ("trainer.devices", 0),
    ("trainer.devices", []),
    ("trainer.devices", None),
    ("trainer.devices", "all"),
    ("trainer.precision", "16-true"),
    ("trainer.max_epochs", 0),
    ("trainer.gradient_clip_val", -1.0),
    ("trainer.limit_train_batches", 0),
    ("trainer.limit_train_batches", 2.5),
    ("trainer.limit_val_batches", 1.5),
    ("trainer.val_check_interval", 0.0),
    ("trainer.early_stopping_patience", 0),
    ("ray.num_workers", 0),
    ("ray.max_failures", -2),
    ("seed", -1),
    ("split", "random"),
    ("val_fraction", 1.0),
    ("resume", "/does/not/exist.ckpt"),
    ("ray.worker_resources", {"CPU": 3}),
    ("log_level", "info"),
    ("output_dir", ""),
    *(("name", each) for each in ("", "../x", "a/b", "/a", "a\\b", "..", ".", " ", "a\nb", "a\0")),
    ("ray.name", ""),
    ("ray.name", "../x"),
    ("ray.storage_path", "s3://me:secret@bucket/runs"),
    ("dataset.data_path", "s3://me:secret@bucket/videos"),
    ("valdatasets", {"davis": {"data_path": "s3://me:secret@bucket/davis"}}),
    ("mlflow_uri", "http://me:secret@host:5000"),
]


@pytest.mark.parametrize("name", ["my run", "..x", "x.y", "größe", "-1", "~x", "a=b", "$HOME"])
def test_any_other_name_is_allowed(settings: dict[str, Any], name: str) -> None:
    assert load_config(change(settings, {"name": name, "ray.name": name})).name == name


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_value_that_is_not_allowed_is_one_fault(settings: dict[str, Any], name: str, value: Any) -> None:
    found = faults(change(settings, {name: value}))
    assert len(found) == 1
    assert found[0].startswith(f"  - {name}=")
    assert "secret" not in found[0]


def test_data_at_a_uri_says_where_a_uri_may_be(settings: dict[str, Any]) -> None:
    (found,) = faults(change(settings, {"dataset.image_root": "s3://bucket/frames"}))
    assert "only checkpoints, and packs in data_path, may be a URI; mount the data" in found


def test_a_checkpoint_s_path_may_start_with_the_home_folder(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    changes = {"model.checkpoint_path": "~/weights.pt"}
    (found,) = faults(change(settings, changes))
    assert "does not exist" in found
    (tmp_path / "weights.pt").touch()
    assert faults(change(settings, changes)) == []


FEATURES = {"dataset.feature_cache": "features"}
NOT_THE_SAME_FEATURES = [
    ({"model.trainable_modules": ["memory_attention", "image_encoder.neck"]}, "may reach into image_encoder"),
    ({"model.trainable_modules": ["*"]}, "dataset.feature_cache=null"),
    ({"dataset.augment.flip_probability": 0.5}, r"alters frames \(flip_probability\).*dataset/augment=none"),
    ({"dataset.augment.mosaic_probability": 0.1}, r"alters frames \(mosaic_probability\)"),
    ({"dataset.augment.hue": 0.1}, r"alters frames \(hue\)"),
    ({"valdataset.feature_cache": "features"}, "must be null: validation reads images"),
]


@pytest.mark.parametrize(("changes", "message"), NOT_THE_SAME_FEATURES)
def test_features_that_differ_from_step_to_step_are_not_cached(
    settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    assert load_config(change(settings, {**FEATURES, "dataset.reverse_probability": 0.5}))
    with pytest.raises(ConfigError, match=rf"has 1 fault:\n.*feature_cache.*{message}"):
        load_config(change(settings, changes))


def test_a_set_of_a_mixture_that_is_augmented_is_not_cached(settings: dict[str, Any], tmp_path: Path) -> None:
    sets = [
        {"data_path": str(tmp_path)},
        {"data_path": str(tmp_path), "name": "b", "augment": {"degrees": 5.0}},
    ]
    changes = {**FEATURES, "dataset.data_path": "", "dataset.datasets": sets}
    with pytest.raises(ConfigError, match=r"has 1 fault:\n.*set b alters frames \(degrees\)"):
        load_config(change(settings, changes))


def test_validation_is_never_augmented(settings: dict[str, Any]) -> None:
    changes = {"valdataset.augment.degrees": 5.0, "valdataset.augment.scale": [0.5, 1.0]}
    (line,) = faults(change(settings, changes))
    assert line.startswith("  - valdataset.augment: must be none, has degrees, scale")


def test_choices_list_what_is_allowed(settings: dict[str, Any]) -> None:
    (found,) = faults(change(settings, {"optimizer.type": "lion"}))
    assert found == "  - optimizer.type='lion': must be one of adamw, adam, sgd"


GRAPHS = {"model.compile": ["memory_attention"], "model.pad_memory": True, "model.cuda_graphs": True}
FROZEN_ENCODER = {"model.trainable_modules": ["mask_decoder"]}
CACHED = {**FROZEN_ENCODER, "dataset.feature_cache": "auto"}
CONFLICTS = [
    ({"model.adapter_settings": {"rank": 8}}, ("model.adapter_settings", "model.adapter")),
    ({"model.lora.alpha": 8.0}, ("model.lora.alpha", "model.lora.rank")),
    (
        {"model.lora.rank": 8, "model.trainable_modules": ["mask_decoder"]},
        ("model.lora.targets", "model.trainable_modules"),
    ),
    (
        {"model.lora.rank": 8, "model.trainable_modules": ["*"]},
        ("model.lora.targets", "model.trainable_modules"),
    ),
    (
        {"model.lora.rank": 8, "model.trainable_modules": [], "dataset.feature_cache": "auto"},
        ("dataset.feature_cache", "model.lora.targets"),
    ),
    (
        {"model.trainable_modules": ["norms"], "dataset.feature_cache": "auto"},
        ("dataset.feature_cache", "model.trainable_modules"),
    ),
    ({"model.ema.start_step": 5}, ("model.ema.start_step", "model.ema.decay")),
    (
        {"model.ema.decay": 0.9, "model.ema.start_step": 5, "trainer.max_steps": 5},
        ("model.ema.start_step", "trainer.max_steps"),
    ),
    (
        {**FROZEN_ENCODER, "model.memory_dropout": 0.1},
        ("model.memory_dropout", "model.trainable_modules"),
    ),
    (
        {**FROZEN_ENCODER, "model.recompute": ["encoder_blocks"]},
        ("model.recompute", "model.trainable_modules"),
    ),
    ({**CACHED, "model.recompute": ["image_encoder"]}, ("model.recompute", "dataset.feature_cache")),
    ({**CACHED, "model.compile": ["image_encoder"]}, ("model.compile", "dataset.feature_cache")),
    ({**CACHED, "model.encoder_precision": "bf16"}, ("model.encoder_precision", "dataset.feature_cache")),
    ({"loss.num_points": 512 * 512}, ("loss.num_points", "model.image_size")),
    (
        {"model.max_obj_ptrs_in_encoder": 1},
        ("model.max_obj_ptrs_in_encoder", "model.add_tpos_enc_to_obj_ptrs"),
    ),
    ({**GRAPHS, "ray.num_workers": {"min": 1, "max": 2}}, ("model.cuda_graphs", "ray.num_workers")),
    ({"model.pad_memory": True}, ("model.pad_memory", "model.compile")),
    ({"model.cuda_graphs": True}, ("model.cuda_graphs", "model.compile")),
    ({**GRAPHS, "model.pad_memory": False}, ("model.cuda_graphs", "model.pad_memory")),
    ({**GRAPHS, "trainer.accelerator": "cpu"}, ("model.cuda_graphs", "trainer.accelerator")),
    (
        {**GRAPHS, "trainer.accumulate_grad_batches": 2, "trainer.accelerator": "gpu"},
        ("model.cuda_graphs", "trainer.accumulate_grad_batches"),
    ),
    ({"loss.num_points": 64, "loss.resolution": "low"}, ("loss.num_points", "loss.resolution")),
    (
        {"model.encoder_precision": "bf16", "model.trainable_modules": ["*"]},
        ("model.encoder_precision", "model.trainable_modules"),
    ),
    (
        {"model.encoder_precision": "bf16", "trainer.precision": "bf16-mixed"},
        ("model.encoder_precision", "trainer.precision"),
    ),
    (
        {"model.use_signed_tpos_enc_to_obj_ptrs": False},
        ("model.use_signed_tpos_enc_to_obj_ptrs", "dataset.max_conditioning_frames"),
    ),
    ({"model.max_objects": 4}, ("model.max_objects", "max_objects")),
    ({"dataset.image_size": [256, 256]}, ("dataset.image_size", "model.image_size")),
    ({"valdataset.image_size": [256, 256]}, ("valdataset.image_size", "model.image_size")),
    (
        {"model.add_tpos_enc_to_obj_ptrs": False},
        ("model.proj_tpos_enc_in_obj_ptrs", "model.add_tpos_enc_to_obj_ptrs"),
    ),
    (
        {"model.use_obj_ptrs_in_encoder": False},
        ("model.add_tpos_enc_to_obj_ptrs", "model.use_obj_ptrs_in_encoder"),
    ),
    (
        {"model.multimask_output_in_sam": False},
        ("model.multimask_output_for_tracking", "model.multimask_output_in_sam"),
    ),
    (
        {"dataset.video_clip_length": 1, "model.trainable_modules": ["memory_attention", "memory_encoder"]},
        ("model.trainable_modules", "dataset.video_clip_length"),
    ),
    (
        {"dataset.video_clip_length": 1, "dataset.prompt_types": ["mask"]},
        ("dataset.prompt_types", "dataset.video_clip_length"),
    ),
    (
        {"valdataset.video_clip_length": 1},
        ("valdataset.prompt_types", "valdataset.video_clip_length"),
    ),
    ({"trainer.devices": [0], "trainer.accelerator": "cpu"}, ("trainer.devices", "trainer.accelerator")),
    ({"trainer.devices": -1, "trainer.accelerator": "cpu"}, ("trainer.devices", "trainer.accelerator")),
    ({"model.bptt_frames": 5}, ("model.bptt_frames", "dataset.video_clip_length")),
    ({"model.bptt_frames": 1}, ("model.bptt_frames", "model.trainable_modules")),
    ({"model.correction_from_gt": 0.5}, ("model.correction_from_gt", "model.num_correction_clicks")),
    (
        {"model.num_correction_clicks": 2, "dataset.prompt_types": ["mask"]},
        ("model.num_correction_clicks", "dataset.prompt_types"),
    ),
    (
        {"dataset.include_center_point": True, "dataset.prompt_types": ["box"]},
        ("dataset.include_center_point", "dataset.prompt_types"),
    ),
    (
        {"dataset.num_of_neg_points": 1, "dataset.prompt_types": ["mask", "box"]},
        ("dataset.num_of_neg_points", "dataset.prompt_types"),
    ),
    ({"valdataset.num_of_pos_points": 3}, ("valdataset.num_of_pos_points", "valdataset.prompt_types")),
    (
        {"dataset.max_conditioning_frames": 6},
        ("dataset.max_conditioning_frames", "dataset.video_clip_length"),
    ),
    (
        {"dataset.video_clip_length": 1, "dataset.frame_stride": 2},
        ("dataset.frame_stride", "dataset.video_clip_length"),
    ),
    (
        {"dataset.dataset_type": "video", "dataset.identity": "iou"},
        ("dataset.identity", "dataset.dataset_type"),
    ),
    (
        {"dataset.augment.blur_sigma": [1.0, 1.0]},
        ("dataset.augment.blur_sigma", "dataset.augment.blur_probability"),
    ),
    (
        {"dataset.augment.noise_std": [0.1, 0.1]},
        ("dataset.augment.noise_std", "dataset.augment.noise_probability"),
    ),
    (
        {"dataset.augment.jpeg_quality": [5, 9]},
        ("dataset.augment.jpeg_quality", "dataset.augment.jpeg_probability"),
    ),
    ({"valdataset.identity": "iou"}, ("valdataset.identity", "valdataset.data_path")),
    ({"valdataset.data_path": "/", "split": "video"}, ("valdataset.data_path", "split")),
    ({"val_fraction": 0.5}, ("val_fraction", "split")),
    ({"optimizer.encoder_lr": 1e-6}, ("optimizer.encoder_lr", "model.trainable_modules")),
    (
        {"optimizer.layer_decay": 0.9, "model.trainable_modules": ["image_encoder.neck"]},
        ("optimizer.layer_decay", "model.trainable_modules"),
    ),
    ({"optimizer.type": "sgd", "optimizer.eps": 1e-6}, ("optimizer.eps", "optimizer.type")),
    ({"optimizer.type": "sgd", "optimizer.betas": [0.9, 0.99]}, ("optimizer.betas", "optimizer.type")),
    ({"scheduler.gamma": 0.5}, ("scheduler.gamma", "scheduler.type")),
    ({"scheduler.type": "step", "scheduler.T_max": 10}, ("scheduler.T_max", "scheduler.type")),
    (
        {"scheduler.enabled": False, "scheduler.warmup_steps": 5},
        ("scheduler.warmup_steps", "scheduler.enabled"),
    ),
    ({"scheduler.T_max": 10, "scheduler.warmup_steps": 10}, ("scheduler.T_max", "scheduler.warmup_steps")),
    ({"scheduler.eta_min": 1.0}, ("scheduler.eta_min", "optimizer.lr")),
    ({"trainer.max_epochs": -1}, ("trainer.max_epochs", "trainer.max_steps")),
    (
        {"trainer.precision": "16-mixed", "trainer.accelerator": "cpu"},
        ("trainer.precision", "trainer.accelerator"),
    ),
    (
        {"trainer.limit_val_batches": 0, "trainer.early_stopping_patience": 3},
        ("trainer.early_stopping_patience", "trainer.limit_val_batches"),
    ),
    (
        {"trainer.check_val_every_n_epoch": 11},
        ("trainer.check_val_every_n_epoch", "trainer.max_epochs"),
    ),
    (
        {"trainer.enable_checkpointing": False, "save_dir": "elsewhere"},
        ("save_dir", "trainer.enable_checkpointing"),
    ),
    ({"trainer.accelerator": "cpu", "ray.use_gpu": True}, ("ray.use_gpu", "trainer.accelerator")),
    ({"ray.address": "auto", "ray.local_cpus": 4}, ("ray.local_cpus", "ray.address")),
    ({"use_wandb": True, "trainer.logger": False}, ("use_wandb", "trainer.logger")),
    (
        {"use_wandb": True, "trainer.logger": False, "wandb_project": "mine"},
        ("wandb_project", "trainer.logger"),
    ),
    ({"wandb_project": "mine"}, ("wandb_project", "loggers")),
    ({"loggers": ["csv"], "trainer.logger": False}, ("loggers", "trainer.logger")),
    ({"loggers": ["csv"], "mlflow_uri": "http://host"}, ("mlflow_uri", "loggers")),
    ({"use_wandb": True, "mlflow_experiment": "mine"}, ("mlflow_experiment", "loggers")),
    ({"group": "mine"}, ("group", "loggers")),
    ({"loggers": ["csv"], "log_checkpoint": False}, ("log_checkpoint", "loggers")),
]


@pytest.mark.parametrize(("changes", "names"), CONFLICTS)
def test_settings_that_do_not_go_together_are_named_both(
    settings: dict[str, Any], changes: dict[str, Any], names: tuple[str, str]
) -> None:
    found = faults(change(settings, changes))
    first, second = names
    assert any(line.startswith(f"  - {first}=") and f" with {second}=" in line for line in found), found


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter in the encoder and one in the memory, as far as a configuration knows them."""
    monkeypatch.setitem(ADAPTED_PARTS, "deep", ("image_encoder.trunk",))
    monkeypatch.setitem(ADAPTED_PARTS, "late", ("memory_attention",))
    known = settings_of(ModelConfig)["adapter"]._replace(allowed=one_of(*ADAPTED_PARTS))
    field = ModelConfig.__dataclass_fields__["adapter"]
    monkeypatch.setattr(field, "metadata", {"setting": known})


@pytest.mark.parametrize(
    ("changes", "clash"),
    [
        ({"model.adapter": "deep", "model.recompute": ["encoder_blocks"]}, None),
        ({"model.adapter": "deep", "optimizer.encoder_lr": 1e-5, "optimizer.layer_decay": 0.9}, None),
        ({"model.adapter": "late", "dataset.feature_cache": "auto", "model.memory_dropout": 0.0}, None),
        ({"model.adapter": "deep", "dataset.feature_cache": "auto"}, "dataset.feature_cache='auto'"),
        ({"model.adapter": "deep", "model.encoder_precision": "bf16"}, "model.encoder_precision='bf16'"),
    ],
)
def test_the_parts_that_an_adapter_reaches_train(
    settings: dict[str, Any], adapters: None, changes: dict[str, Any], clash: str | None
) -> None:
    found = faults(change(settings, {"model.trainable_modules": ["mask_decoder"], **changes}))
    if clash is None:
        assert found == []
    else:
        (fault,) = found
        assert fault.startswith(f"  - {clash} with model.adapter='deep'")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that are there, as far as a configuration knows them."""
    there = {"peft"}
    fault = "{} is not installed; `pip install it`".format
    monkeypatch.setattr(model_conflicts, "missing", lambda name: None if name in there else fault(name))
    return there


def test_adapters_train_alone_unless_other_modules_are_given(
    settings: dict[str, Any], installed: set[str]
) -> None:
    del settings["model"]["trainable_modules"]
    assert load_config(change(settings, {"model.lora.rank": 8})).model.trainable_modules == []
    beside = {"model.trainable_modules": ["norms", "memory_encoder"], "model.lora.rank": 8}
    assert load_config(change(settings, beside)).model.trainable_modules == ["norms", "memory_encoder"]
    late = {"model.lora.targets": ["memory_attention"], "model.trainable_modules": ["memory_encoder"]}
    load_config(change(settings, {**late, "dataset.feature_cache": "auto"}))


def test_wrong_adapters_that_train_alone_are_one_fault(settings: dict[str, Any], installed: set[str]) -> None:
    settings["model"]["trainable_modules"] = []
    (found,) = faults(change(settings, {"model.lora.rank": 0}))
    assert found == "  - model.lora.rank=0: must be at least 1, or null for no adapters"
    (found,) = faults(change(settings, {"model.lora.rank": 8, "model.lora.targets": []}))
    assert found.startswith("  - model.lora.targets=[]: must be a list of at least one")


def test_adapters_need_peft(settings: dict[str, Any], installed: set[str]) -> None:
    installed.clear()
    found = faults(change(settings, {"model.lora.rank": 8, "model.trainable_modules": []}))
    assert found == ["  - model.lora.rank=8: peft is not installed; `pip install it`"]


def test_every_need_is_of_a_setting_and_is_on_by_default(settings: dict[str, Any]) -> None:
    off = {"model.compile", "model.num_correction_clicks", "model.ema.decay", "model.lora.rank"}
    for name, needed in NEEDS.items():
        assert {name, needed} <= set(setting_names())
        assert bool(value_at(Config(), needed)) != (needed in off or needed.endswith("_probability"))


@pytest.mark.parametrize("name", ["proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs"])
def test_what_is_off_is_found_through_others(settings: dict[str, Any], name: str) -> None:
    found = faults(change(settings, {"model.use_obj_ptrs_in_encoder": False}))
    assert any(
        line.startswith(f"  - model.{name}=true with model.use_obj_ptrs_in_encoder=false") for line in found
    )


def test_no_loss_at_all_is_refused(settings: dict[str, Any]) -> None:
    weights = {f"loss.{name}": 0.0 for name in settings["loss"] if name.endswith("_weight")}
    (found,) = faults(change(settings, weights))
    assert "at least one of" in found


ALLOWED = [
    {
        "dataset.video_clip_length": 1,
        "valdataset.video_clip_length": 1,
        "valdataset.prompt_types": ["box"],
    },
    {"valdataset.video_clip_length": 1, "trainer.limit_val_batches": 0},
    {"dataset.prompt_types": ["mask", "mask", "point", "box"]},
    {"model.checkpoint_path": "s3://bucket/weights.pt", "resume": "gs://bucket/last.ckpt"},
    {"dataset.data_path": "s3://bucket/pack", "valdataset.data_path": "gs://bucket/pack"},
    {"trainer.devices": 2, "trainer.accelerator": "cpu"},
    {"dataset.prompt_types": ["bbox"]},
    {"dataset.num_of_pos_points": 3, "dataset.num_of_neg_points": 2, "dataset.include_center_point": True},
    {"model.num_correction_clicks": 7, "model.correction_from_gt": 0.5},
    {"model.bptt_frames": 2},
    {"model.use_signed_tpos_enc_to_obj_ptrs": False, "dataset.max_conditioning_frames": 2},
    {"model.trainable_modules": ["*"], "optimizer.encoder_lr": 1e-6, "optimizer.layer_decay": 0.9},
    {"model.trainable_modules": ["*.blocks.1?"], "optimizer.layer_decay": 0.9},
    {"model.trainable_modules": ["image_encoder.trunk.blocks.11"], "optimizer.layer_decay": 0.9},
    {"model.checkpoint_path": "hf://facebook/sam2.1-hiera-tiny"},
    {"optimizer.type": "sgd", "optimizer.betas": [0.8, 0.999]},
    {"scheduler.type": "constant", "scheduler.warmup_steps": 5},
    {"scheduler.enabled": False},
    {"split": "time", "val_fraction": 0.5},
    {"trainer.max_epochs": -1, "trainer.max_steps": 10},
    {"trainer.limit_val_batches": 0},
    {"trainer.limit_train_batches": 2, "trainer.val_check_interval": 2},
    {"trainer.devices": [0, 2]},
    {"trainer.devices": -1},
    {"model.device": "cuda:1"},
]


@pytest.mark.parametrize("changes", ALLOWED)
def test_what_is_allowed_passes(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    assert faults(change(settings, changes)) == []


def test_memory_parts_beside_others_may_see_single_frames(settings: dict[str, Any]) -> None:
    changes = {
        "dataset.video_clip_length": 1,
        "model.trainable_modules": ["memory_attention", "mask_decoder"],
    }
    assert faults(change(settings, changes)) == []


def test_a_faulty_field_gives_no_second_fault(settings: dict[str, Any]) -> None:
    (found,) = faults(change(settings, {"optimizer.lr": -1, "scheduler.eta_min": 0.0}))
    assert found.startswith("  - optimizer.lr=")


def test_validate_finds_wrong_types_in_a_hand_made_config(tmp_path: Path) -> None:
    config = Config(max_objects="3")  # type: ignore[arg-type]
    config.dataset.data_path = str(tmp_path)
    with pytest.raises(ConfigError, match=r"max_objects='3': must be an integer"):
        validate(config)


@pytest.mark.parametrize("wrong", [[], None, 3, "text"])
def test_what_is_no_mapping_is_refused(wrong: Any) -> None:
    for read in (load_config, validate):
        with pytest.raises(ConfigError, match="^config=.*: must be a mapping of settings"):
            read(wrong)
    with pytest.raises(ConfigError, match=r"^model=.*: must be a ModelConfig; load_config reads mappings"):
        Config(model=wrong)


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        ({"dta_path": "."}, "dataset.data_path"),
        ({"data_pth": "."}, "dataset.data_path"),
        ({"datasets": [{"dta_path": "."}]}, "dataset.datasets[0].data_path"),
    ],
)
def test_a_misspelt_setting_is_not_said_to_be_missing_as_well(data: dict[str, Any], meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"dataset": data})
    (fault,) = caught.value.faults
    assert f"did you mean {meant}?" in fault


def test_an_interpolation_that_leads_nowhere_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="cannot be resolved"):
        load_config(OmegaConf.create({"max_objects": "${nowhere}"}))


def test_checkpoints_go_below_the_run_folder_by_default() -> None:
    assert Config(output_dir="runs/one").checkpoint_dir == Path("runs/one/checkpoints")
    assert Config(output_dir="runs/one", save_dir="kept").checkpoint_dir == Path("kept")


def test_the_configs_folder_is_found() -> None:
    assert (configs_dir() / "config.yaml").is_file()


def test_importing_the_configuration_loads_neither_torch_nor_ray() -> None:
    code = "import sys, sam2vt.config; print([m for m in ('torch', 'ray', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
