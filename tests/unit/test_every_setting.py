"""Every setting, changed alone: what is built or drawn changes, or the change is refused and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from sam2vt.config import Config
from sam2vt.configuration import conflicts
from sam2vt.configuration.loading import load_config
from sam2vt.configuration.reading import configs_dir
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training import loggers
from sam2vt.errors import ConfigError
from sam2vt.settings import default_of, settings_of, walk

from . import observers
from .observers import Observe, seen

SETTINGS = [name for name, *_ in walk(Config)]


class Case(NamedTuple):
    """Another value of a setting, and what has to be set for it to matter; FILES is the folder `files`."""

    value: Any
    beside: Mapping[str, Any] = {}
    observe: Observe | None = None  # None: by its section


OBSERVERS = {
    "model": observers.network,
    "dataset": observers.clips,
    "valdataset": observers.clips,
    "loss": observers.loss,
    "optimizer": observers.steps,
    "scheduler": observers.steps,
    "trainer": observers.trainer,
    "ray": observers.ray_run,
}

POINTS = {"prompt_types": ["point"]}
COCO = {"data_path": "FILES/coco/images.json"}
# By the name in a section of data, for `dataset` and `valdataset` alike.
OF_DATA = {
    "dataset_type": Case("video", COCO),
    "data_path": Case("FILES/other"),
    "video_clip_length": Case(3),
    "num_workers": Case(1),
    "prompt_types": Case(["box"], {"prompt_types": ["point"]}),
    "num_of_pos_points": Case(3, POINTS),
    "num_of_neg_points": Case(2, POINTS),
    "include_center_point": Case(True, POINTS),
    "max_frame_stride": Case(3),
    "reverse_probability": Case(1.0),
    "min_object_pixels": Case(600),
    "object_sampling": Case("large", {".max_objects": 1}),
    "max_conditioning_frames": Case(4),
    "identity": Case("category", COCO),
    "image_root": Case(
        "FILES/coco/elsewhere", {"data_path": "FILES/coco/moved.json", "identity": "category"}
    ),
    "allow_absolute_paths": Case(True, {"data_path": "FILES/coco/absolute.json", "identity": "category"}),
    "colours": Case({"red": [255, 0, 0]}, {"data_path": "FILES/colours"}),
    "feature_cache": Case("FILES/features"),
    "datasets": Case([{"data_path": "FILES/other"}]),
    "score_first_and_last": Case(True, observe=observers.scored_frames),
    "image_size": Case([96, 96]),
}
OF_AUGMENT = {
    "scale": Case([0.5, 0.6]),
    "crop_area": Case([0.3, 0.4]),
    "crop_ratio": Case([0.5, 0.6]),
    "scale_jitter": Case([0.5, 0.6]),
    "blur_sigma": Case([3.0, 4.0], {"blur_probability": 1.0}),
    "noise_std": Case([0.2, 0.3], {"noise_probability": 1.0}),
    "jpeg_quality": Case([2, 3], {"jpeg_probability": 1.0}),
}
NO_CODE = {"model.proj_tpos_enc_in_obj_ptrs": False, "model.use_signed_tpos_enc_to_obj_ptrs": False}
STEP = {"scheduler.type": "step", "scheduler.step_size": 10}
CASES = {
    "model.checkpoint_path": Case("FILES/weights.pt"),
    "model.config_path": Case("FILES/network.yaml"),
    "model.trainable_modules": Case(["mask_decoder"]),
    "model.device": Case("cuda:7"),
    "model.num_maskmem": Case(3),
    "model.image_size": Case(96),
    "model.backbone_stride": Case(8),
    "model.use_obj_ptrs_in_encoder": Case(False, {**NO_CODE, "model.add_tpos_enc_to_obj_ptrs": False}),
    "model.add_tpos_enc_to_obj_ptrs": Case(False, {**NO_CODE, "dataset.max_conditioning_frames": 2}),
    "model.multimask_output_in_sam": Case(False, {"model.multimask_output_for_tracking": False}),
    "model.max_obj_ptrs_in_encoder": Case(4),
    "model.proj_tpos_enc_in_obj_ptrs": Case(False),
    "model.use_signed_tpos_enc_to_obj_ptrs": Case(False, {"dataset.max_conditioning_frames": 2}),
    "model.max_objects": Case(2),
    "model.correction_from_gt": Case(0.5, {"model.num_correction_clicks": 1}),
    "model.bptt_frames": Case(2),
    "model.encoder_precision": Case("bf16"),
    "model.memory_dropout": Case(0.3),
    "model.compile": Case(["memory_attention"]),
    "model.pad_memory": Case(True, {"model.compile": ["memory_attention"]}),
    "model.cuda_graphs": Case(
        True,
        {
            "model.compile": ["memory_attention"],
            "model.pad_memory": True,
            "trainer.accelerator": "auto",
        },
    ),
    "model.recompute": Case(["memory_attention"]),
    "model.adapter": Case("none of these"),
    "model.adapter_settings": Case({"rank": 4}),
    "model.lora.rank": Case(4),
    "model.lora.alpha": Case(4.0, {"model.lora.rank": 4}),
    "model.lora.dropout": Case(0.1, {"model.lora.rank": 4}),
    "model.lora.targets": Case(["mask_decoder"], {"model.lora.rank": 4}),
    "model.ema.decay": Case(0.9, observe=observers.trainer),
    "model.ema.start_step": Case(5, {"model.ema.decay": 0.9}, observers.trainer),
    "loss.num_points": Case(16),
    "loss.smooth": Case(1.0),
    "optimizer.betas": Case([0.5, 0.9]),
    "optimizer.encoder_lr": Case(1e-6, {"model.trainable_modules": ["*"]}),
    "optimizer.layer_decay": Case(0.5, {"model.trainable_modules": ["*"]}),
    "scheduler.T_max": Case(20),
    "scheduler.step_size": Case(5, STEP),
    "scheduler.gamma": Case(0.5, STEP),
    "scheduler.eta_min": Case(1e-6),
    "trainer.accelerator": Case("gpu"),
    "trainer.devices": Case(2),
    "trainer.limit_train_batches": Case(2),
    "trainer.limit_val_batches": Case(2),
    "trainer.val_check_interval": Case(0.5),
    "trainer.early_stopping_patience": Case(3),
    "trainer.checkpoint_every_n_steps": Case(5),
    "ray.address": Case("somewhere:6379"),
    "ray.local_cpus": Case(3),
    "ray.num_workers": Case(4),
    "ray.worker_resources": Case({"slot": 1.0}),
    "ray.decode_labels": Case({"pool": "data"}),
    "ray.storage_path": Case("FILES/storage"),
    "ray.name": Case("mine"),
    "name": Case("mine", observe=observers.trainer),
    "max_objects": Case(1, observe=observers.clips),
    "seed": Case(1, observe=observers.clips),
    "split": Case("time", observe=observers.clips),
    "val_fraction": Case(0.6, {"split": "time"}, observers.clips),
    "valdatasets": Case({"other": {"data_path": "FILES/other"}}, observe=observers.clips),
    "resume": Case("FILES/other", observe=observers.resumed),
    "on_bad_sample": Case("quarantine", observe=observers.trainer),
    "loggers": Case(["csv"], observe=observers.trainer),
    "use_wandb": Case(True, observe=observers.trainer),
    "wandb_project": Case("mine", {"use_wandb": True}, observers.trainer),
    "mlflow_uri": Case("http://host:5000", {"loggers": ["mlflow"]}, observers.trainer),
    "mlflow_experiment": Case("mine", {"loggers": ["mlflow"]}, observers.trainer),
    "group": Case("mine", {"loggers": ["mlflow"]}, observers.trainer),
    "log_checkpoint": Case(False, {"loggers": ["mlflow"]}, observers.trainer),
    "output_dir": Case("FILES/run", observe=observers.trainer),
    "save_dir": Case("FILES/kept", observe=observers.trainer),
    "log_level": Case("WARNING", observe=observers.log_level),
    "style": Case("screen", observe=observers.trainer),
}


def case_of(name: str) -> Case:
    """The case of a setting; those that are not listed take another value that their rule allows."""
    section, _, own = name.rpartition(".")
    if section in ("dataset", "valdataset"):
        case = OF_DATA.get(own) or Case(other_value(name))
    elif section.endswith(".augment"):
        case = OF_AUGMENT.get(own) or Case(other_value(name))
        case = case if section == "dataset.augment" else Case(case.value)  # validation has none at all
    else:
        return CASES.get(name) or Case(other_value(name))
    beside = {key[1:] if key[0] == "." else f"{section}.{key}": value for key, value in case.beside.items()}
    return case._replace(beside=beside)


def other_value(name: str) -> Any:
    """Another allowed value: the other truth value, another choice, or another number."""
    ((owner, own),) = ((owner, own) for each, owner, own in walk(Config) if each == name)
    default, rule = default_of(owner, own), settings_of(owner)[own].allowed
    if isinstance(default, bool):
        return not default
    tried = (
        rule.choices
        if rule.choices
        else (1.0, 2, 3, 20.0, 0.5)
        if default in (0.0, 1.0)
        else (default * 2, default + 1)
    )
    if isinstance(default, int) and not rule.choices:
        tried = (default + 1, default + 2)
    return next((each for each in tried if each != default and rule.fits(each)), default)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_sample_data(folder / "videos", num_videos=2, num_frames=8, size=(48, 64))
    write_sample_data(folder / "other", num_videos=1, num_frames=8, size=(48, 64), seed=9)
    frames = sorted((folder / "videos" / "JPEGImages" / "sample_00").glob("*.jpg"))
    write_coco(folder / "coco", frames)
    write_colours(folder / "colours", frames)
    network = yaml.safe_load((configs_dir() / "network" / "sam2.1_nano.yaml").read_text())
    network["model"]["memory_attention"]["num_layers"] = 1
    (folder / "network.yaml").write_text(yaml.safe_dump(network))
    torch.manual_seed(5)
    model = observers.build_from_config(load_config(settings(folder, {})).model).load()
    torch.save({"model": model.network.state_dict()}, folder / "weights.pt")
    return folder


def write_coco(folder: Path, frames: list[Path]) -> None:
    """A video without track ids; and its JSON with files that are elsewhere, and with absolute paths."""
    (folder / "elsewhere").mkdir(parents=True)
    square = [[4, 4, 40, 4, 40, 40, 4, 40]]
    for name in ("images", "moved", "absolute"):
        images = []
        for i, frame in enumerate(frames):
            target = folder / "elsewhere" / f"moved_{frame.name}" if name == "moved" else folder / frame.name
            shutil.copy(frame, target)
            file = str(frame) if name == "absolute" else target.name
            images.append({"id": i, "video_id": 1, "file_name": file, "height": 48, "width": 64})
        annotations = [
            {"id": i, "image_id": i, "category_id": 1, "segmentation": square} for i in range(len(frames))
        ]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "tool"}]}
        (folder / f"{name}.json").write_text(json.dumps(content))


def write_colours(folder: Path, frames: list[Path]) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:30, 8:30] = (255, 0, 0)
    for i, frame in enumerate(frames):
        for path in (folder / f"JPEGImages/v/{i}.jpg", folder / f"Annotations/v/{i}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(frame, folder / f"JPEGImages/v/{i}.jpg")
        Image.fromarray(pixels).save(folder / f"Annotations/v/{i}.png")


def settings(files: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A small run with `changes`, as plain containers; FILES in a path is the folder `files`."""
    given: dict[str, Any] = {}
    clips = {"video_clip_length": 4, "num_workers": 0, "clips_per_video": 4}
    base = {
        f"{section}.{name}": value for section in ("dataset", "valdataset") for name, value in clips.items()
    }
    base |= {
        "model.config_path": "network/sam2.1_nano.yaml",
        "model.image_size": 64,
        "model.device": "cpu",
        "dataset.data_path": "FILES/videos",
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "save_dir": "",
    }
    for name, value in {**base, **changes}.items():
        *parents, last = name.split(".")
        section = given
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return json.loads(json.dumps(given).replace("FILES", str(files)))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B and MLflow in name only: what they would be asked for."""
    for where in (conflicts, loggers):
        monkeypatch.setattr(where, "missing", lambda *_: None)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def loaded_or_refused(given: dict[str, Any]) -> Config | ConfigError:
    try:
        return load_config(given)
    except ConfigError as error:
        return error


_BEFORE: dict[str, Any] = {}  # what was seen without the change, by what was set and observed


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_an_effect_or_is_refused(
    files: Path, name: str, request: pytest.FixtureRequest
) -> None:
    if name.startswith("model.lora."):
        request.getfixturevalue("peft")
    case = case_of(name)
    before = settings(files, case.beside)
    *parents, own = name.split(".")
    observe = case.observe or OBSERVERS[parents[0]]
    key = json.dumps([observe.__name__, before])
    if key not in _BEFORE:
        _BEFORE[key] = seen(observe, load_config(before))
    changed = loaded_or_refused(settings(files, {**case.beside, name: case.value}))
    if isinstance(changed, ConfigError):
        assert ".".join(parents) in str(changed)
        assert own in str(changed)
    else:
        assert seen(observe, changed) != _BEFORE[key]


@pytest.mark.parametrize("section", sorted(set(OBSERVERS) - {"trainer", "ray"}))
def test_a_setting_that_nothing_reads_would_be_found(files: Path, section: str) -> None:
    configs = [load_config(settings(files, {})) for _ in range(2)]
    for value, config in enumerate(configs):
        object.__setattr__(getattr(config, section), "unread", value)
    first, second = (seen(OBSERVERS[section], config) for config in configs)
    assert first == second
