from __future__ import annotations

import copy
from dataclasses import replace

import lightning as L
import pytest
import torch

from sam2vt.config import LossConfig
from sam2vt.configuration.loading import to_dict
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.identity import Swaps
from sam2vt.core.evaluation.jf import mean_score
from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask
from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite
from sam2vt.core.training.optim import gradient_norm
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.errors import ConfigError, DataError

from ..operations import Operations

OBJECT_SCORE = "sam_mask_decoder.pred_obj_score_head"
IOU = "sam_mask_decoder.iou_prediction_head"


def make_trainer(tmp_path, *callbacks: L.Callback, **kwargs) -> L.Trainer:
    settings = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
        "default_root_dir": tmp_path,
    }
    return L.Trainer(callbacks=list(callbacks), **{**settings, **kwargs})


def loaded(config) -> SAM2LightningModule:
    module = SAM2LightningModule(config)
    module.setup("fit")
    return module


def trains(module: SAM2LightningModule, part: str) -> set[bool]:
    return {p.requires_grad for n, p in module.model.network.named_parameters() if n.startswith(part)}


def test_attributes_and_that_nothing_is_loaded_before_setup(config) -> None:
    module = SAM2LightningModule(config)
    assert module.config is config
    assert not module.model.loaded
    assert module.criterion.bce_weight == config.loss.bce_weight
    assert module.best_val_loss == float("inf")
    module.setup("fit")
    network = module.model.network
    module.setup("validate")
    assert module.model.network is network


def test_random_weights_follow_from_the_seed_alone(config) -> None:
    torch.manual_seed(1)
    first = loaded(config).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = loaded(config).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    config.seed += 1
    third = loaded(config).state_dict()
    assert not all(torch.equal(first[name], third[name]) for name in first)


@pytest.mark.parametrize(("weight", "head"), [("presence_weight", OBJECT_SCORE), ("iou_head_weight", IOU)])
def test_a_head_that_no_loss_term_reaches_is_frozen(config, weight, head) -> None:
    assert trains(loaded(config), head) == {True}
    setattr(config.loss, weight, 0.0)
    module = loaded(config)
    assert trains(module, head) == {False}
    assert trains(module, "sam_mask_decoder.transformer") == {True}
    module.train()
    assert not module.model.network.get_submodule(head).training


def test_nothing_left_to_train_is_an_error_that_names_both_settings(config) -> None:
    config.model.trainable_modules = [IOU]
    config.loss.iou_head_weight = 0.0
    with pytest.raises(ConfigError, match=r"trainable_modules=.*iou_prediction_head.*iou_head_weight=0.0"):
        loaded(config)


def test_a_checkpoint_loads_with_weights_only_and_gives_the_model_back(config, tmp_path) -> None:
    trainer = make_trainer(tmp_path, limit_train_batches=1, limit_val_batches=0)
    module = SAM2LightningModule(to_dict(config))
    trainer.fit(module, datamodule=SAM2LightningDataModule(to_dict(config)))
    module.best_val_loss = 1.5
    trainer.save_checkpoint(tmp_path / "model.ckpt")

    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert saved["hyper_parameters"] == {"config": to_dict(config)}
    assert saved["SAM2LightningDataModule"]["samples_seen"] == 1
    again = SAM2LightningModule.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu")
    assert again.config == config
    assert again.best_val_loss == 1.5
    state = module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


class Watch(L.Callback):
    """Notes modes and metrics while training."""

    def __init__(self) -> None:
        self.modes: list[tuple[bool, bool]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, pl_module, *args) -> None:
        network = pl_module.model.network
        self.modes.append((network.image_encoder.training, network.memory_attention.training))

    def on_train_batch_end(self, trainer, *args) -> None:
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("settings", [{"resolution": "low"}, {"num_points": 64}])
def test_a_loss_measured_at_fewer_places_goes_down(config, tmp_path, settings) -> None:
    config.loss = LossConfig(**settings)
    module, watch = loaded(config), Watch()
    trainer = make_trainer(tmp_path, watch, max_epochs=5, limit_val_batches=0)
    trainer.fit(module, datamodule=SAM2LightningDataModule(config))
    losses = [metrics["train/loss"] for metrics in watch.metrics]
    assert len(losses) == 15
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])  # an epoch of three clips


def test_only_what_trains_changes_and_frozen_parts_stay_in_eval_mode(config, tmp_path) -> None:
    module, watch = loaded(config), Watch()
    before = copy.deepcopy(module.model.network.state_dict())
    trainer = make_trainer(tmp_path, watch, limit_train_batches=2, limit_val_batches=1, val_check_interval=1)
    trainer.fit(module, datamodule=SAM2LightningDataModule(config))
    assert watch.modes == [(False, True)] * 2  # the second comes after a validation
    after = module.model.network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"memory_attention", "sam_mask_decoder"} <= changed
    assert not {"image_encoder", "sam_prompt_encoder"} & changed

    logged = watch.metrics[-1]
    parts = {name.removeprefix("train/") for name in logged if name.startswith("train/")}
    assert parts >= {"loss", "bce", "dice", "iou", "temporal", "iou_head", "presence", "lr"}
    weights = {"bce": 1.0, "dice": 1.0, "iou": 0.5, "temporal": 0.1, "iou_head": 1.0, "presence": 1.0}
    total = sum(weight * logged[f"train/{name}"] for name, weight in weights.items())
    assert logged["train/loss"] == pytest.approx(total, rel=1e-4)
    # Two steps of a cosine over two steps end at 0; the second step ran with half the rate.
    assert [row["train/lr"] for row in watch.metrics] == pytest.approx([1e-3, 0.5e-3])


def test_validation_scores_whole_videos(config, tmp_path) -> None:
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    trainer = make_trainer(tmp_path)
    (first, *_) = trainer.validate(module, datamodule=data, verbose=False)
    generator = PromptGenerator(["mask"])
    results = [evaluate_video(module.model, r, 64, generator, config.seed) for r in data.val_records]
    scores = [score for result in results for score in result.scores]
    assert module.last_scores == sorted(scores, key=lambda s: (s.video_id, s.object_id))
    assert len({score.video_id for score in scores}) == 3
    mean = mean_score(scores)
    assert trainer.callback_metrics["val/J"] == pytest.approx(mean.values["J"])
    assert trainer.callback_metrics["val/F"] == pytest.approx(mean.values["F"])
    assert trainer.callback_metrics["val/J&F"] == pytest.approx(mean.values["J&F"])
    assert "val/swap_rate" not in trainer.callback_metrics  # no prediction is on an object
    held = [s for r in data.val_records for s in hold_first_mask(r, 64, generator, config.seed).scores]
    for name, value in mean_score(held).values.items():
        assert trainer.callback_metrics[f"val/{name}_hold_first"] == pytest.approx(value)
    assert module.best_val_loss == pytest.approx(float(trainer.callback_metrics["val/loss"]))
    assert {"val/loss", "val/bce", "val/dice", "val/iou"} <= set(trainer.callback_metrics)
    # Nothing about it is random.
    assert trainer.validate(module, datamodule=data, verbose=False)[0] == first


def test_validation_tells_how_often_objects_are_mixed_up(config, tmp_path, monkeypatch) -> None:
    def mixed_up(model, *given):
        result = hold_first_mask(*given)
        return replace(result, scores=[score._replace(swaps=Swaps(4, 1)) for score in result.scores])

    monkeypatch.setattr("sam2vt.core.training.trainer.evaluate_video", mixed_up)
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    (first, *_) = make_trainer(tmp_path).validate(module, datamodule=data, verbose=False)
    assert first["val/swap_rate"] == 0.25


def test_validation_batches_do_not_change_the_loss(config, tmp_path, monkeypatch) -> None:
    """Not even where an object is absent: bce divides by more entries then than dice."""

    def without_an_object(clips):
        batch = collate_fn(clips)
        for i, video in enumerate(batch["video_id"]):
            if video.endswith("1"):
                batch["masks"][i, 1:, 0] = False
            if video.endswith("2"):
                batch["valid_masks"][i, 1:, 0] = False
        return batch

    monkeypatch.setattr("sam2vt.core.training.data_module.collate_fn", without_an_object)
    config.valdataset.video_clip_length = 4
    losses = []
    for batch_size in (1, 3):
        config.valdataset.batch_size = batch_size
        trainer, module = make_trainer(tmp_path), SAM2LightningModule(config)
        trainer.validate(module, datamodule=SAM2LightningDataModule(config), verbose=False)
        losses.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert {"val/loss", "val/bce", "val/dice", "val/temporal", "val/iou_head"} <= losses[0].keys()
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_baseline_is_computed_once(config, tmp_path, monkeypatch) -> None:
    calls = []

    def count(record, *args):
        calls.append(record.video_id)
        return hold_first_mask(record, *args)

    monkeypatch.setattr("sam2vt.core.training.trainer.hold_first_mask", count)
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    for _ in range(2):
        make_trainer(tmp_path).validate(module, datamodule=data, verbose=False)
    assert len(calls) == 3


def test_videos_that_cannot_be_scored_are_an_error(config, tmp_path, monkeypatch) -> None:
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    for record in data.val_records:
        for index in list(record.annotations)[1:]:
            del record.annotations[index]
    with pytest.raises(DataError, match="none of .* objects has a frame to be scored on"):
        make_trainer(tmp_path).validate(module, datamodule=data, verbose=False)


def test_dropout_and_clicks_follow_from_seed_and_step(config, tmp_path) -> None:
    draws = []

    class Draw(L.Callback):
        def on_before_backward(self, trainer, *args) -> None:
            draws.append(torch.rand(()).item())

    for _ in range(2):
        trainer = make_trainer(tmp_path, Draw(), limit_train_batches=2, limit_val_batches=0)
        trainer.fit(SAM2LightningModule(config), datamodule=SAM2LightningDataModule(config))
        torch.rand(3)
    assert draws[:2] == draws[2:]
    assert draws[0] != draws[1]


def test_data_module_loaders(config) -> None:
    config.dataset.clips_per_video = 2
    config.dataset.batch_size = 4
    config.valdataset.batch_size = 2
    data = SAM2LightningDataModule(to_dict(config))
    data.setup("fit")
    train = data.train_dataloader()
    assert len(train) == 1  # 6 clips, 4 of which fill a batch
    (batch,) = list(train)
    assert batch["images"].shape == (4, 2, 3, 64, 64)
    clips, videos = data.val_dataloader()
    assert [len(batch["video_id"]) for batch in clips] == [2, 1]
    assert [video.record.video_id for video in videos] == [r.video_id for r in data.val_records]
    assert len(data.train_dataset) == len(data.val_dataset) == 3


def test_split_by_time_shares_no_frame(config) -> None:
    config.split, config.val_fraction = "time", 0.5
    data = SAM2LightningDataModule(config)
    data.setup("fit")
    for train, val in zip(data.train_records, data.val_records):
        assert train.video_id == val.video_id
        assert not set(train.frames) & set(val.frames)


def test_own_validation_data(config, tmp_path) -> None:
    from sam2vt.core.data.writing.sample_data import write_sample_data

    write_sample_data(tmp_path / "val", num_videos=1, num_frames=4, size=(48, 64), seed=5)
    config.valdataset.data_path = str(tmp_path / "val")
    data = SAM2LightningDataModule(config)
    data.setup("fit")
    assert (len(data.train_records), len(data.val_records)) == (3, 1)


def test_a_position_within_an_epoch_needs_the_same_sequence(config) -> None:
    data = SAM2LightningDataModule(config)
    data.setup("fit")
    state = {**data.state_dict(), "epoch": 2, "clips": 1, "samples_seen": 7}
    data.load_state_dict(state)
    assert data.position() == (2, 1)
    assert data.state_dict()["samples_seen"] == 7

    config.dataset.batch_size, config.seed = 2, 8
    other = SAM2LightningDataModule(config)
    other.setup("fit")
    with pytest.raises(ConfigError, match="clips_per_step was 1, is 2, seed was 7, is 8"):
        other.load_state_dict(state)
    other.load_state_dict({**state, "clips": 0})  # at an epoch's end it may change
    assert other.position() == (2, 0)


def test_a_batch_in_which_nothing_is_predicted_trains_by_nothing(config) -> None:
    """An object given by its mask on the last frame alone leaves the model nothing to say."""
    module = loaded(config).train()
    size = config.model.image_size
    masks = torch.zeros(1, 2, 1, size, size, dtype=torch.bool)
    masks[:, 1, :, :16] = True
    prompt = {"type": "mask", "mask": masks[0, 1, 0], "object_index": 0, "frame_index": 1}
    batch = {
        "images": torch.zeros(1, 2, 3, size, size, dtype=torch.uint8),
        "masks": masks,
        "valid_masks": torch.ones(1, 2, 1, dtype=torch.bool),
        "prompts": [[prompt]],
        "video_id": ["v"],
    }
    loss = module.training_step(batch, 0)
    assert loss.item() == 0
    loss.backward()
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(g is not None and not g.any() for g in gradients)


def test_gradients_do_not_outlive_their_update(config, tmp_path) -> None:
    module, kept = loaded(config), []

    def count(*_) -> None:
        kept.append(sum(parameter.grad is not None for parameter in module.parameters()))

    module.model.network.image_encoder.register_forward_hook(count)
    options = {"limit_train_batches": 3, "limit_val_batches": 0, "accumulate_grad_batches": 2}
    make_trainer(tmp_path, **options).fit(module, datamodule=SAM2LightningDataModule(config))
    assert [bool(number) for number in kept] == [False, True, False]


def test_gradients_are_measured_once_a_step_and_clipped_by_it(config, tmp_path) -> None:
    module, lengths = loaded(config), []

    class Lengths(L.Callback):
        def on_train_batch_end(self, *_) -> None:
            lengths.append(float(gradient_norm(list(module.parameters()))))

    options = {"limit_train_batches": 2, "limit_val_batches": 0, "gradient_clip_val": 1e-3}
    trainer = make_trainer(tmp_path, StopOnNonFinite(), Lengths(), **options)
    trainer.fit(module, datamodule=SAM2LightningDataModule(config))
    assert lengths == pytest.approx([1e-3, 1e-3], rel=1e-3)

    once = make_trainer(
        tmp_path, StopOnNonFinite(), limit_train_batches=1, limit_val_batches=0, gradient_clip_val=1e-3
    )
    norms = []

    def see(function, arguments, _) -> None:
        if "norm" in function.name() and "layer_norm" not in function.name():
            norms.extend(arguments[0] if isinstance(arguments[0], (list, tuple)) else arguments[:1])

    with Operations(see):
        once.fit(module, datamodule=SAM2LightningDataModule(config))
    trained = sum(parameter.requires_grad for parameter in module.parameters())
    assert trained // 2 < len(norms) <= trained + 1  # and the one of all of them
