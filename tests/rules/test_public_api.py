"""The names, arguments, defaults and attributes that users program against.

Everything may take further arguments with defaults; nothing named here may be renamed, reordered or
dropped.
"""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from PIL import Image

SIGNATURES = {
    "train.setup_logging": "log_level='INFO'",
    "train.create_trainer": "config, callbacks=None",
    "train.train": "config",
    "train.hydra_main": "cfg",
    "train.main": "",
    "core.model.sam2.SAM2Model.__init__": (
        "self, checkpoint_path=None, config_path=None, trainable_modules=None, device='cuda', "
        "image_size=512, num_maskmem=7, **kwargs"
    ),
    "core.model.sam2.SAM2Model.load": "self, device=None",
    "core.model.sam2.SAM2Model.configure_for_training": "self, trainable_modules",
    "core.model.sam2.SAM2Model.freeze_all_parameters": "self",
    "core.model.sam2.SAM2Model.count_trainable_parameters": "self",
    "core.model.sam2.SAM2Model.count_total_parameters": "self",
    "core.model.sam2.SAM2Model.forward": (
        "self, images, masks=None, prompts=None, batched_video_datapoint=None"
    ),
    "core.model.sam2.create_sam2_model": (
        "checkpoint_path, config_path, trainable_modules=None, device='cuda', **kwargs"
    ),
    "core.data.dataset.PromptGenerator.__init__": (
        "self, prompt_types=None, num_of_pos_points=1, include_center=False, num_of_neg_points=0"
    ),
    "core.data.dataset.PromptGenerator.generate_prompts": "self, mask",
    "core.data.dataset.VideoDataset.__init__": (
        "self, data_path, image_size=(512, 512), video_clip_length=5, prompt_types=None, "
        "number_of_points=(1, 3), include_center=False, num_of_neg_points=0"
    ),
    "core.data.dataset.VideoDataset.__len__": "self",
    "core.data.dataset.COCODataset.__init__": (
        "self, coco_json_path, image_size=(512, 512), video_clip_length=5, prompt_types=None, "
        "num_of_pos_points=1, include_center=False, num_of_neg_points=0"
    ),
    "core.data.dataset.COCODataset.__len__": "self",
    "core.data.dataset.collate_fn": "batch",
    "core.data.dataset.create_dataloader": (
        "dataset_type, dataset_path, prompt_types, batch_size=1, num_workers=4, shuffle=True, "
        "num_of_pos_points=1, include_center=False, num_of_neg_points=0, **kwargs"
    ),
    "core.training.loss.SAM2TrainingLoss.__init__": (
        "self, bce_weight=1.0, dice_weight=1.0, iou_weight=0.5, temporal_weight=0.1, smooth=1e-6"
    ),
    "core.training.loss.SAM2TrainingLoss.forward": (
        "self, pred_masks, target_masks, valid_masks=None, return_components=False"
    ),
    "core.training.trainer.SAM2LightningModule.__init__": "self, config",
    "core.training.trainer.SAM2LightningModule.setup": "self, stage=None",
    "core.training.trainer.SAM2LightningModule.configure_optimizers": "self",
    "core.training.trainer.SAM2LightningModule.training_step": "self, batch, batch_idx",
    "core.training.trainer.SAM2LightningModule.validation_step": "self, batch, batch_idx",
    "core.training.trainer.SAM2LightningModule.on_validation_epoch_end": "self",
    "core.training.trainer.SAM2LightningModule.on_train_end": "self",
    "core.training.trainer.SAM2LightningDataModule.__init__": "self, config",
    "core.training.trainer.SAM2LightningDataModule.setup": "self, stage=None",
    "core.training.trainer.SAM2LightningDataModule.train_dataloader": "self",
    "core.training.trainer.SAM2LightningDataModule.val_dataloader": "self",
}

DATASET = {
    "dataset_type": "str",
    "data_path": "str",
    "image_size": "tuple[int, int]",
    "video_clip_length": "int",
    "batch_size": "int",
    "num_workers": "int",
    "shuffle": "bool",
    "prompt_types": "list[str]",
    "num_of_pos_points": "int",
    "num_of_neg_points": "int",
    "include_center_point": "bool",
}
CONFIG_ATTRIBUTES: dict[str, dict[str, str]] = {
    "ModelConfig": {
        "checkpoint_path": "optional[str]",
        "config_path": "str",
        "trainable_modules": "list[str]",
        "device": "str",
        "num_maskmem": "int",
        "image_size": "int",
        "backbone_stride": "int",
        "use_obj_ptrs_in_encoder": "bool",
        "max_obj_ptrs_in_encoder": "int",
        "add_tpos_enc_to_obj_ptrs": "bool",
        "proj_tpos_enc_in_obj_ptrs": "bool",
        "use_signed_tpos_enc_to_obj_ptrs": "bool",
        "multimask_output_in_sam": "bool",
        "multimask_output_for_tracking": "bool",
        "max_objects": "int",
    },
    "DatasetConfig": DATASET,
    "ValDatasetConfig": DATASET,
    "LossConfig": dict.fromkeys(
        ("bce_weight", "dice_weight", "iou_weight", "temporal_weight", "smooth"), "float"
    ),
    "OptimizerConfig": {
        "type": "str",
        "lr": "float",
        "weight_decay": "float",
        "betas": "tuple[float, float]",
        "eps": "float",
    },
    "SchedulerConfig": {
        "enabled": "bool",
        "type": "str",
        "T_max": "optional[int]",
        "eta_min": "float",
        "step_size": "int",
        "gamma": "float",
    },
    "TrainerConfig": {
        "accelerator": "str",
        "devices": "any",
        "precision": "str",
        "max_epochs": "int",
        "gradient_clip_val": "float",
        "accumulate_grad_batches": "int",
        "limit_train_batches": "union[int, float]",
        "limit_val_batches": "union[int, float]",
        "val_check_interval": "union[int, float]",
        "num_sanity_val_steps": "int",
        "enable_checkpointing": "bool",
        "enable_progress_bar": "bool",
        "logger": "bool",
        "log_every_n_steps": "int",
        "early_stopping_patience": "optional[int]",
    },
    "Config": {
        "max_objects": "int",
        "seed": "int",
        "use_wandb": "bool",
        "wandb_project": "str",
        "output_dir": "str",
        "log_level": "str",
        "save_dir": "str",
    },
}
SECTIONS = ("model", "dataset", "valdataset", "loss", "optimizer", "scheduler", "trainer")


def find(path: str) -> Any:
    """The object at `module.name` or `module.Class.name` below the package."""
    parts = path.split(".")
    depth = next(i for i, part in enumerate(parts) if part[0].isupper() or i == len(parts) - 1)
    value: Any = importlib.import_module(".".join(["sam2vt", *parts[:depth]]))
    for part in parts[depth:]:
        value = getattr(value, part)
    return value


def has_attributes(thing: Any, names: str) -> None:
    missing = [name for name in names.split() if not hasattr(thing, name)]
    assert not missing, f"{type(thing).__name__} lacks {missing}"


def type_name(hint: Any) -> str:
    """`List[str]` and `list[str]` alike as "list[str]"."""
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "").lower()


@pytest.mark.parametrize("path", SIGNATURES)
def test_arguments_and_defaults(path: str) -> None:
    expected = inspect.signature(eval(f"lambda {SIGNATURES[path]}: 0"))
    actual = inspect.signature(find(path))
    promised = [p for p in expected.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = list(actual.parameters.values())
    assert [p.name for p in given[: len(promised)]] == [p.name for p in promised]
    for have, want in zip(given, promised):
        assert have.kind is want.kind, have.name
        assert have.default == want.default, have.name
    kinds = {p.kind for p in given}
    further = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    assert kinds & further or "**kwargs" not in SIGNATURES[path]
    for extra in given[len(promised) :]:
        variadic = extra.kind in (extra.VAR_KEYWORD, extra.VAR_POSITIONAL)
        assert variadic or extra.default is not extra.empty, f"{extra.name} has no default"


@pytest.mark.parametrize("name", CONFIG_ATTRIBUTES)
def test_config_attributes_and_their_types(name: str) -> None:
    import sam2vt.config

    cls = getattr(sam2vt.config, name)
    hints = {attribute: type_name(hint) for attribute, hint in get_type_hints(cls).items()}
    expected = CONFIG_ATTRIBUTES[name]
    assert {attribute: hints.get(attribute) for attribute in expected} == expected


def test_config_sections() -> None:
    from sam2vt.config import Config

    assert [f.name for f in fields(Config)][: len(SECTIONS)] == list(SECTIONS)


def test_prompt_generator_attributes() -> None:
    generator = find("core.data.dataset.PromptGenerator")()
    has_attributes(generator, "prompt_types number_of_pos_points include_center num_of_neg_points")


def test_model_attributes() -> None:
    model = find("core.model.sam2.SAM2Model")()
    has_attributes(
        model, "checkpoint_path config_path trainable_modules device image_size num_maskmem loaded load"
    )
    assert model.loaded is False


def test_loss_attributes() -> None:
    has_attributes(
        find("core.training.loss.SAM2TrainingLoss")(),
        "bce_weight dice_weight iou_weight temporal_weight smooth",
    )


def test_lightning_attributes() -> None:
    from sam2vt.config import Config

    module = find("core.training.trainer.SAM2LightningModule")(Config())
    has_attributes(module, "config model criterion best_val_loss")
    data = find("core.training.trainer.SAM2LightningDataModule")(Config())
    has_attributes(data, "config train_dataset val_dataset")


def test_video_dataset_attributes(tmp_path: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "one").mkdir(parents=True)
    for index in range(2):
        label = np.zeros((32, 32), np.uint8)
        label[8:16, 8:16] = 1
        Image.fromarray(label).save(tmp_path / "Annotations" / "one" / f"{index:05d}.png")
        Image.fromarray(np.stack([label * 200] * 3, -1)).save(
            tmp_path / "JPEGImages" / "one" / f"{index:05d}.jpg"
        )
    dataset = find("core.data.dataset.VideoDataset")(str(tmp_path), image_size=(32, 32), video_clip_length=2)
    has_attributes(dataset, "data_path image_size video_clip_length prompt_generator")
    assert len(dataset) == 1


def test_coco_dataset_attributes(tmp_path: Path) -> None:
    images, annotations = [], []
    for index in range(2):
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / f"{index}.png")
        images.append(
            {"id": index, "file_name": f"{index}.png", "height": 32, "width": 32, "video_id": "one"}
        )
        square = [4, 4, 20, 4, 20, 20, 4, 20]
        annotations.append(
            {"id": index, "image_id": index, "category_id": 1, "track_id": 7, "segmentation": [square]}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    path = tmp_path / "videos.json"
    path.write_text(json.dumps(content))
    dataset = find("core.data.dataset.COCODataset")(str(path), image_size=(32, 32), video_clip_length=2)
    has_attributes(dataset, "coco_json_path image_size video_clip_length prompt_generator")
    has_attributes(dataset, "images annotations video_to_images image_id_to_annotations")
    assert len(dataset) == 1
