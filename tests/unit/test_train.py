"""From a configuration to a trainer, and the Hydra entry with its exit codes."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf

from sam2vt import train
from sam2vt.composing import compose_config
from sam2vt.config import AugmentConfig, Config, EmaConfig, LoraConfig
from sam2vt.configuration.loading import from_dict, load_config, to_dict, validate
from sam2vt.core.training.callbacks import default_callbacks
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite
from sam2vt.core.training.callbacks.validations import FirstValidation
from sam2vt.core.training.checkpoints.restoring import resume_kwargs
from sam2vt.core.training.checkpoints.resume import FoundCheckpoint, resume_point
from sam2vt.core.training.loggers import build_loggers
from sam2vt.errors import CheckpointError, ConfigError, DataError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config(output_dir=str(tmp_path / "run"))
    config.dataset.data_path = str(tmp_path)
    config.trainer.accelerator = "cpu"
    config.trainer.devices = 1
    return config


@pytest.fixture
def package_log() -> Iterator[logging.Logger]:
    """The package's logger, left as it was found."""
    package = logging.getLogger("sam2vt")
    level, handlers = package.level, list(package.handlers)
    yield package
    package.setLevel(level)
    package.handlers[:] = handlers


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sam2vt.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can train in fp16")
def test_fp16_is_refused_where_lightning_would_train_in_bf16(config: Config) -> None:
    config.trainer.accelerator, config.trainer.precision = "auto", "16-mixed"
    message = r"trainer\.precision='16-mixed' with trainer\.accelerator='auto': fp16 needs a GPU.*bf16-mixed"
    with pytest.raises(ConfigError, match=message):
        train.create_trainer(config, [])


def test_logging_has_the_level_asked_for_and_one_handler(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    package_log.handlers.clear()
    train.setup_logging("WARNING")
    train.setup_logging("DEBUG")
    assert package_log.level == logging.DEBUG
    assert len(package_log.handlers) == 1


def test_logging_leaves_a_handler_that_is_there_alone(
    package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    package_log.handlers.clear()
    train.setup_logging()
    assert package_log.handlers == []
    assert package_log.level == logging.INFO


def test_training_from_python_logs_at_the_configured_level(
    config: Config, package_log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def stop(_: Config) -> None:
        raise Enough

    monkeypatch.setattr("sam2vt.core.training.checkpoints.resume.checkpoint_to_resume", stop)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    package_log.handlers.clear()
    config.log_level = "WARNING"
    with pytest.raises(Enough):
        train.train(config)
    assert package_log.level == logging.WARNING
    assert len(package_log.handlers) == 1


def test_log_levels_in_lower_case(package_log: logging.Logger) -> None:
    train.setup_logging("debug")
    assert package_log.level == logging.DEBUG


def test_paths_are_taken_as_such(tmp_path: Path) -> None:
    config = Config(output_dir=tmp_path / "run")  # type: ignore[arg-type]
    config.dataset.data_path = config.resume = tmp_path  # type: ignore[assignment]
    validate(config)
    assert (config.output_dir, config.dataset.data_path) == (str(tmp_path / "run"), str(tmp_path))
    assert config.resume == str(tmp_path)
    assert load_config({"dataset": {"data_path": tmp_path}}).dataset.data_path == str(tmp_path)
    assert from_dict({"dataset": {"data_path": tmp_path}}).dataset.data_path == str(tmp_path)


def test_an_unknown_log_level_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"log_level='LOUD'.*DEBUG, INFO"):
        train.setup_logging("LOUD")


def test_trainer_arguments_are_lightning_s(config: Config) -> None:
    known = inspect.signature(L.Trainer.__init__).parameters
    assert set(train.trainer_kwargs(config)) <= set(known)


TRAINER_SETTINGS: dict[str, Any] = {
    "max_epochs": 3,
    "max_steps": 7,
    "gradient_clip_val": 0.5,
    "accumulate_grad_batches": 4,
    "limit_train_batches": 2,
    "limit_val_batches": 0.5,
    "val_check_interval": 0.25,
    "num_sanity_val_steps": 2,
    "log_every_n_steps": 3,
    "check_val_every_n_epoch": 2,
    "precision": "bf16-mixed",
}


def test_every_setting_reaches_the_trainer(config: Config) -> None:
    for name, value in TRAINER_SETTINGS.items():
        setattr(config.trainer, name, value)
    trainer = train.build_trainer(config, [])
    assert {name: getattr(trainer, name) for name in TRAINER_SETTINGS} == TRAINER_SETTINGS
    assert trainer.default_root_dir == config.output_dir


def test_switches_reach_the_trainer(config: Config) -> None:
    on = train.build_trainer(config, [])
    assert on.progress_bar_callback is not None
    assert on.checkpoint_callback is not None
    assert on.logger is not None
    config.trainer.enable_progress_bar = config.trainer.enable_checkpointing = config.trainer.logger = False
    off = train.build_trainer(config, [])
    assert off.progress_bar_callback is None
    assert off.checkpoint_callback is None
    assert off.logger is None


def test_no_clipping_is_none_for_lightning(config: Config) -> None:
    config.trainer.gradient_clip_val = 0.0
    assert train.trainer_kwargs(config)["gradient_clip_val"] is None


def test_callbacks_given_come_on_top_of_the_default_ones(config: Config) -> None:
    class Mine(L.Callback):
        pass

    class Bar(ProgressBar):
        pass

    mine = Mine()
    default = [type(each) for each in train.create_trainer(config).callbacks]
    given = train.create_trainer(config, callbacks=[mine]).callbacks
    assert {SaveCheckpoints, StopOnNonFinite} < set(default)
    assert [type(each) for each in given if each is not mine] == default
    assert given.index(mine) < [type(each) for each in given].index(FirstValidation)
    assert mine in train.create_trainer(config, callbacks=mine).callbacks  # as Lightning's Trainer does
    # Lightning takes one of a kind: what is given is meant.
    guard, bar = StopOnNonFinite(), Bar()
    given = train.create_trainer(config, callbacks=[guard, bar]).callbacks
    assert [each for each in given if isinstance(each, StopOnNonFinite)] == [guard]
    assert [each for each in given if isinstance(each, ProgressBar)] == [bar]
    again = train.create_trainer(config, callbacks=[*default_callbacks(config), mine]).callbacks
    assert sorted(map(str, map(type, again))) == sorted(map(str, [*default, Mine]))


@pytest.mark.parametrize(
    ("devices", "several"),
    [(1, False), ("auto", False), (2, True), ([0], False)],
)
def test_several_devices_train_with_ddp(config: Config, devices: Any, several: bool) -> None:
    config.trainer.devices = devices
    strategy = train.trainer_kwargs(config)["strategy"]
    assert isinstance(strategy, DDPStrategy) == several
    if several:
        assert strategy._ddp_kwargs == {"find_unused_parameters": True, "gradient_as_bucket_view": True}
    else:
        assert strategy == "auto"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_a_config_error(config: Config) -> None:
    config.trainer.accelerator = "gpu"
    with pytest.raises(ConfigError, match="trainer"):
        train.build_trainer(config, [])


# Runs the command line as on Linux without a driver, and prints which packages are loaded at its end.
WITHOUT_DRIVER = """
import sys
from sam2vt import train
train.has_gpu_driver = lambda: False
try:
    train.main()
finally:
    print([m for m in ("torch", "lightning") if m in sys.modules])
"""


def test_a_gpu_without_a_driver_is_refused_before_torch_and_the_run_folder(tmp_path: Path) -> None:
    overrides = [
        "model=nano",
        "trainer=gpu",
        f"dataset.data_path={tmp_path}",
        f"output_dir={tmp_path / 'run'}",
    ]
    command = [sys.executable, "-c", WITHOUT_DRIVER, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert "trainer.accelerator='gpu': this machine has no driver of a GPU. Give trainer=cpu" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("accelerator", "driver"), [("cpu", False), ("auto", False), ("gpu", True)])
def test_other_accelerators_are_lightning_s_to_judge(
    config: Config, accelerator: str, driver: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "has_gpu_driver", lambda: driver)
    config.trainer.accelerator = accelerator
    train.check_gpu(config)


def test_a_gpu_that_torch_sees_has_a_driver() -> None:
    assert train.has_gpu_driver() or not torch.cuda.is_available()


def test_a_refused_run_leaves_the_folder_of_an_earlier_one_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(SystemExit):
        train.main([f"dataset.data_path={tmp_path}", f"output_dir={folder}", "optimizer.lr=-1"])
    assert not list(folder.iterdir())


def test_tensorboard_is_the_logger_and_writes_into_the_run_folder(config: Config) -> None:
    (logger,) = build_loggers(config)
    assert type(logger).__name__ == "TensorBoardLogger"
    assert Path(logger.log_dir or "") == Path(config.output_dir) / "tensorboard"


def test_a_logger_without_its_package_is_a_config_error(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2vt.health.packages.find_spec", lambda name: None)
    config.use_wandb = True
    with pytest.raises(ConfigError, match=r"wandb is not installed; `pip install .*\[wandb\]'"):
        train.build_trainer(config, [])


def test_a_store_that_cannot_be_written_ends_the_run_before_it_begins(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2vt.configuration.conflicts.missing", lambda *_: None)
    config.loggers, config.mlflow_uri = ["mlflow"], f"sqlite:///{config.dataset.data_path}"
    with pytest.raises(ConfigError, match="mlflow_uri=sqlite://.*: unable to open database file; give"):
        train.train(config)
    assert not Path(config.output_dir).exists()


def test_the_resolved_configuration_lies_in_the_run_folder(config: Config) -> None:
    path = train.write_config(config)
    assert path == Path(config.output_dir) / "config.yaml"
    assert load_config(OmegaConf.load(path)) == config  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"config=\[\]: must be a mapping of settings"),
        (
            {"optimizer": {"lrr": 1}, "max_objects": "3"},
            r"(?s)3 faults.*optimizer.lr\?.*max_objects='3': must",
        ),
        ({"dataset": {"dta_path": "x"}}, r"has 1 fault:\n.*did you mean dataset.data_path\?"),
    ],
)
def test_a_mapping_is_read_and_checked(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train.train(config)


def test_training_starts_with_all_faults_of_its_configuration(config: Config) -> None:
    config.optimizer.lr = -1.0
    config.dataset.data_path = "/does/not/exist"
    with pytest.raises(ConfigError, match=r"(?s)2 faults.*optimizer\.lr.*dataset\.data_path") as caught:
        train.train(config)
    assert not Path(config.output_dir).exists(), caught


def test_the_settings_of_an_earlier_run_stay_until_the_data_has_passed(config: Config) -> None:
    written = Path(config.output_dir) / "config.yaml"
    written.parent.mkdir()
    written.write_text("of before")
    config.trainer.logger = False
    with pytest.raises(DataError):  # there are no videos
        train.train(config)
    assert written.read_text() == "of before"


def test_resuming_needs_a_training_checkpoint(config: Config, tmp_path: Path) -> None:
    trainer = train.build_trainer(config, [])
    assert resume_kwargs(None, trainer) == {}
    weights = tmp_path / "weights.pt"
    torch.save({"model": {"weight": torch.zeros(1)}}, weights)
    with pytest.raises(
        CheckpointError, match=r"it has no hyper_parameters, loops, optimizer_states.*model\.checkpoint_path"
    ):
        resume_point(FoundCheckpoint(str(weights)), config)
    full = write_checkpoint(config, tmp_path / "last.ckpt")
    assert resume_kwargs(str(full), trainer)["ckpt_path"] == str(full)


def write_checkpoint(config: Config, path: Path) -> Path:
    state = {"state_dict": {}, "optimizer_states": [], "loops": {}}
    torch.save({**state, "hyper_parameters": {"config": to_dict(config)}}, path)
    return path


OTHER_RUNS = [
    ({"model.image_size": 1024}, "model.image_size was 512, is 1024"),
    ({"model.config_path": "network/sam2.1_nano.yaml"}, "is 'network/sam2.1_nano.yaml'"),
    ({"model.num_maskmem": 3}, "model.num_maskmem was 7, is 3"),
    ({"model.bptt_frames": 2}, "model.bptt_frames was null, is 2"),
    ({"model.lora": LoraConfig(rank=8)}, "model.lora.rank was null, is 8"),
    ({"model.ema": EmaConfig(decay=0.9)}, "model.ema.decay was null, is 0.9"),
    ({"model.trainable_modules": ["*"]}, r"model.trainable_modules was \['memory_att.*, is \['\*'\]"),
    (
        {"dataset.prompt_types": ["mask"]},
        r"dataset.prompt_types was \['point', 'box', 'mask'\], is \['mask'\]",
    ),
    ({"dataset.frame_stride": 2}, "dataset.frame_stride was 1, is 2"),
    (
        {"dataset.augment": AugmentConfig(degrees=5.0, scale=(0.5, 1.0))},
        r"dataset.augment.degrees was 0.0, is 5.0; dataset.augment.scale was \[1.0, 1.0\], is \[0.5, 1.0\]",
    ),
    ({"valdataset.prompt_types": ["point"]}, "valdataset.prompt_types was"),
    ({"loss.dice_weight": 2.0}, "loss.dice_weight was 1.0, is 2.0"),
    ({"optimizer.type": "sgd"}, "optimizer.type was 'adamw', is 'sgd'"),
    ({"optimizer.lr": 1e-3}, "optimizer.lr was 5e-05, is 0.001"),
    ({"scheduler.type": "constant"}, "scheduler.type was 'cosine', is 'constant'"),
    ({"trainer.precision": "bf16-mixed"}, "trainer.precision was '32-true', is 'bf16-mixed'"),
    ({"trainer.gradient_clip_val": 1.0}, "trainer.gradient_clip_val was 0.1, is 1.0"),
    ({"trainer.accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches was 1, is 2"),
    ({"seed": 1, "split": "time"}, "seed was 0, is 1; split was 'none', is 'time'"),
]


def change(config: Config, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        section, _, field = name.rpartition(".")
        setattr(getattr(config, section) if section else config, field, value)


@pytest.mark.parametrize(("changes", "message"), OTHER_RUNS)
def test_another_run_s_checkpoint_is_refused_before_training(
    config: Config, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_checkpoint(config, tmp_path / "last.ckpt")
    change(config, changes)
    with pytest.raises(CheckpointError, match=message):
        resume_point(FoundCheckpoint(str(path)), config)


FREE = {
    "model.device": "cpu",
    "model.checkpoint_path": "moved.pt",
    "dataset.num_workers": 9,
    "valdataset.batch_size": 3,
    "trainer.log_every_n_steps": 3,
    "trainer.val_check_interval": 0.5,
    "trainer.checkpoint_every_n_steps": 5,
    "trainer.enable_progress_bar": False,
    "ray.max_failures": 3,
    "on_bad_sample": "quarantine",
    "output_dir": "elsewhere",
}


def test_what_a_resumed_run_may_change(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_checkpoint(config, tmp_path / "last.ckpt")
    change(config, FREE)
    config.model.trainable_modules = config.model.trainable_modules[::-1]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sam2vt"):
        resume_point(FoundCheckpoint(str(path)), config)
    assert not caplog.messages


def test_what_a_resumed_run_may_change_and_should_know_of(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_checkpoint(config, tmp_path / "last.ckpt")
    config.trainer.max_epochs, config.dataset.data_path = 20, "moved"
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sam2vt"):
        resume_point(FoundCheckpoint(str(path)), config)
    longer, moved = caplog.messages
    assert "trainer.max_epochs was 10, is 20: the cosine, whose scheduler.T_max is null, now ends" in longer
    assert "is 'moved': must hold the same data" in moved
    caplog.clear()
    config.trainer.max_epochs, config.dataset.data_path = 10, str(tmp_path)
    config.dataset.feature_cache = "features"
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sam2vt"):
        resume_point(FoundCheckpoint(str(path)), config)
    (rounded,) = caplog.messages
    assert "dataset.feature_cache was null, is 'features': from here on features are rounded" in rounded
    caplog.clear()
    config.scheduler.T_max = 100
    path = write_checkpoint(config, path)
    config.trainer.max_epochs, config.dataset.feature_cache = 30, "moved"
    with caplog.at_level(logging.WARNING, "sam2vt"):
        resume_point(FoundCheckpoint(str(path)), config)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [(["resume=auto"], True), (["resume=auto", "output_dir=runs/mine"], False), ([], False)],
)
def test_auto_in_a_folder_named_after_the_time_is_said_to_find_nothing(
    caplog: pytest.LogCaptureFixture, overrides: list[str], warned: bool
) -> None:
    cfg = compose_config(["dataset.data_path=x", *overrides])
    with caplog.at_level(logging.WARNING, "sam2vt"):
        train.warn_of_new_folder(cfg)
    assert [("nothing is ever found there" in message) for message in caplog.messages] == [True] * warned


def test_a_checkpoint_without_a_configuration_is_refused(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}, "optimizer_states": [], "loops": {}, "hyper_parameters": {}}, path)
    with pytest.raises(CheckpointError, match="holds no configuration"):
        resume_point(FoundCheckpoint(str(path)), config)


def test_devices_that_the_cpu_does_not_take_are_a_config_error(config: Config) -> None:
    config.trainer.devices = [0]
    with pytest.raises(ConfigError, match="trainer"):
        train.build_trainer(config, [])
    config.trainer.devices = 2
    assert train.build_trainer(config, []).num_devices == 2


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_more_processes_than_cpus_are_refused(
    config: Config, accelerator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config.trainer.accelerator, config.trainer.devices = accelerator, 3
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"trainer\.devices=3: would start 3 .* 2 CPUs.*at most 2"):
        train.build_trainer(config, [])
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert train.build_trainer(config, []).num_devices == 3


def test_composing_leaves_hydra_as_it_was(tmp_path: Path) -> None:
    import sam2  # noqa: F401  # initialises Hydra's global state
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    cfg = compose_config(["experiment=demo", f"dataset.data_path='{tmp_path}'"])
    assert load_config(cfg).name == "demo"
    assert GlobalHydra.instance().hydra is before


def test_composing_what_is_not_there_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="experiment=nothing: unknown choice"):
        compose_config(["experiment=nothing"])
    with pytest.raises(ConfigError, match="optimizer.rate"):
        compose_config(["optimizer.rate=1"])


def test_hydra_main_takes_a_composed_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(train, "train", seen.append)
    cfg = compose_config(["model=nano", f"dataset.data_path='{tmp_path}'", "output_dir=here"])
    train.hydra_main(cfg)
    assert seen[0].output_dir == "here"
    assert seen[0].model.image_size == 128


def test_the_command_prints_the_composed_configuration() -> None:
    done = run("experiment=demo", "dataset.data_path=videos", "--cfg", "job", "--resolve")
    assert done.returncode == 0
    shown = OmegaConf.create(done.stdout)
    assert shown.dataset.data_path == "videos"
    assert shown.dataset.image_size == [128, 128]
    assert set(shown) == set(to_dict(Config()))


@pytest.mark.parametrize("override", ["optimizer.rate=1", "experiment=nothing", "optimizer"])
def test_overrides_that_do_not_compose_end_with_2(override: str) -> None:
    done = run(override)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert override.split("=")[0].split(".")[-1] in done.stderr


def test_bad_settings_end_with_2_and_one_message(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run("optimizer.lr=-1", "dataset.data_path=/does/not/exist", f"output_dir={folder}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the configuration has 2 faults:")
    assert "Traceback" not in done.stderr


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, sam2vt.train; "
        "print([m for m in ('torch', 'ray', 'lightning', 'hydra', 'sam2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("inner", ["", "/run"])
def test_a_run_folder_that_cannot_be_made_is_one_message(tmp_path, capsys, inner):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        train.main(["model=nano", f"dataset.data_path={tmp_path}", f"output_dir={tmp_path}/file{inner}"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/file{inner}: ")
    assert "Traceback" not in error
