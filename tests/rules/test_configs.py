"""Every file below configs/ loads, every choice of every group composes and passes the checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from sam2vt.composing import compose_config
from sam2vt.config import AugmentConfig, Config, SweepConfig
from sam2vt.configuration.loading import load_config, to_dict
from sam2vt.configuration.reading import configs_dir

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "configs"
YAML_FILES = sorted(FOLDER.rglob("*.yaml"))
GROUPS = sorted(p.name for p in FOLDER.iterdir() if p.is_dir() and p.name != "network")
EXPERIMENTS = sorted(p.stem for p in (FOLDER / "experiment").glob("*.yaml"))
DEBUGS = sorted(p.stem for p in (FOLDER / "debug").glob("*.yaml"))


def load(tmp_path: Path, *overrides: str) -> Config:
    return load_config(compose_config([*overrides, f"dataset.data_path='{tmp_path}'"]))


def test_the_folder_is_the_repository_s() -> None:
    assert configs_dir().samefile(FOLDER)


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_every_file_loads(file: Path) -> None:
    content = OmegaConf.load(file)
    assert isinstance(content, DictConfig)
    assert len(content) > 0


def test_the_promised_choices_are_there() -> None:
    promised = {
        "model": {"tiny", "small", "base_plus", "large", "nano"},
        "optimizer": {"adamw", "adam", "sgd"},
        "scheduler": {"cosine", "step", "constant"},
        "experiment": {"demo", "overfit", "mose_like", "surgical_coco"},
        "debug": {"fast"},
    }
    for group, names in promised.items():
        assert names <= {p.stem for p in (FOLDER / group).glob("*.yaml")}


def test_the_composed_configuration_has_every_setting_with_its_default(tmp_path: Path) -> None:
    """The YAML is what people read, the dataclasses what the program knows: they must not part."""
    composed = to_dict(load(tmp_path))
    expected = to_dict(Config())
    expected["model"]["checkpoint_path"] = "hf://facebook/sam2.1-hiera-tiny"
    expected["dataset"]["data_path"] = str(tmp_path)
    for name in ("output_dir", "save_dir"):
        del composed[name], expected[name]
    assert composed == expected
    keys = OmegaConf.to_container(compose_config(), resolve=False)
    assert _keys(keys) == _keys(to_dict(Config()))


@pytest.mark.parametrize("group", [g for g in GROUPS if g not in ("experiment", "debug", "sweep")])
def test_every_choice_passes(group: str, tmp_path: Path) -> None:
    for file in (FOLDER / group).glob("*.yaml"):
        config = load(tmp_path, f"{group}={file.stem}")
        assert isinstance(config, Config)


@pytest.mark.parametrize("dataset", ["auto", "video", "coco"])
def test_every_augmentation_passes_beside_every_dataset(dataset: str, tmp_path: Path) -> None:
    names = {file.stem for file in (FOLDER / "dataset" / "augment").glob("*.yaml")}
    assert names == {"none", "sam2", "strong", "heavy"}
    for name in names:
        config = load(tmp_path, f"dataset={dataset}", f"dataset/augment={name}")
        assert (config.dataset.augment == AugmentConfig()) == (name == "none")
        assert config.valdataset.augment == AugmentConfig()


def test_a_sweep_s_settings_are_those_that_the_program_knows() -> None:
    written = OmegaConf.to_container(OmegaConf.load(FOLDER / "sweep" / "default.yaml"))
    assert written == to_dict(SweepConfig())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("debug", [None, *DEBUGS])
def test_every_experiment_passes(experiment: str, debug: str | None, tmp_path: Path) -> None:
    overrides = [f"experiment={experiment}", *([f"debug={debug}"] if debug else [])]
    config = load(tmp_path, *overrides)
    assert config.name == ("debug" if debug else experiment)
    assert config.output_dir.startswith(f"runs/{config.name}/")
    assert config.save_dir == f"{config.output_dir}/checkpoints"


def test_debug_fast_takes_two_steps_of_everything(tmp_path: Path) -> None:
    trainer = load(tmp_path, "experiment=mose_like", "debug=fast").trainer
    assert (trainer.max_epochs, trainer.limit_train_batches, trainer.limit_val_batches) == (1, 2, 2)


def test_one_number_sets_the_image_size_everywhere(tmp_path: Path) -> None:
    config = load(tmp_path, "model.image_size=256")
    assert config.dataset.image_size == config.valdataset.image_size == (256, 256)


def test_the_demo_s_recipe(tmp_path: Path) -> None:
    """Memory holds the prompted frame alone, and one object of several is the right one."""
    config = load(tmp_path, "experiment=demo")
    assert (config.model.max_objects, config.model.multimask_output_for_tracking) == (1, False)
    assert config.dataset.prompt_types == ["mask"]
    data = config.dataset
    assert (data.video_clip_length, data.max_frame_stride, data.batch_size) == (2, 2, 4)
    assert config.ray.num_workers * data.batch_size == 8
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.scheduler.warmup_steps) == (
        1e-3,
        0.01,
        50,
    )
    assert (config.trainer.max_steps, config.trainer.gradient_clip_val) == (400, 1.0)


def test_the_published_recipe(tmp_path: Path) -> None:
    config = load(tmp_path, "experiment=mose_like")
    assert (config.model.image_size, config.dataset.video_clip_length, config.max_objects) == (1024, 8, 3)
    assert (config.optimizer.lr, config.optimizer.encoder_lr) == (5e-6, 3e-6)
    assert config.scheduler.eta_min == pytest.approx(config.optimizer.lr / 10)
    assert (config.optimizer.layer_decay, config.optimizer.weight_decay) == (0.9, 0.1)
    assert (config.trainer.gradient_clip_val, config.trainer.precision) == (0.1, "bf16-mixed")
    loss = config.loss
    assert (loss.focal_weight, loss.dice_weight, loss.iou_head_weight, loss.presence_weight) == (20, 1, 1, 1)
    assert loss.bce_weight == loss.iou_weight == loss.temporal_weight == 0
    assert config.dataset.augment == AugmentConfig(
        flip_probability=0.5,
        degrees=25,
        shear=20,
        brightness=0.1,
        contrast=0.03,
        saturation=0.03,
        grayscale_probability=0.05,
        frame_brightness=0.1,
        frame_contrast=0.05,
        frame_saturation=0.05,
    )


def test_the_nano_network_is_sam_2_1_with_small_numbers() -> None:
    import sam2
    from hydra.utils import instantiate

    nano = OmegaConf.load(FOLDER / "network" / "sam2.1_nano.yaml").model
    tiny = OmegaConf.load(Path(sam2.__path__[0]) / "configs" / "sam2.1" / "sam2.1_hiera_t.yaml").model
    flags = {name: value for name, value in tiny.items() if not OmegaConf.is_config(value)}
    flags["image_size"] = 128
    assert {name: nano[name] for name in flags} == flags
    assert _targets(nano) == _targets(tiny)
    parameters = sum(p.numel() for p in instantiate(nano).parameters())
    assert 1_000_000 <= parameters <= 2_000_000


def _keys(node: Any) -> Any:
    return {key: _keys(value) for key, value in node.items()} if isinstance(node, dict) and node else None


def _targets(node: Any) -> Any:
    """The classes of a network, in the places where they stand."""
    if not OmegaConf.is_dict(node):
        return node
    return {key: _targets(node[key]) for key in node if key == "_target_" or OmegaConf.is_dict(node[key])}
