"""Exported checkpoints against stock SAM 2's builders and video predictor."""

from __future__ import annotations

import errno
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from sam2vt.config import LoraConfig, ModelConfig
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.errors import CheckpointError

from .conftest import SIZE, nano_model, prompt
from .stock import set_up_hydra

NUM_FRAMES = 12


def write_training_checkpoint(path, model: SAM2Model) -> None:
    """A checkpoint as a training run writes it: the module's state and its plain configuration."""
    config = ModelConfig(
        config_path=model.config_path,
        image_size=model.image_size,
        device="cpu",
        adapter=model.adapter,
        adapter_settings=model.adapter_settings,
        lora=LoraConfig(**model.lora),
        **model.architecture,
    )
    torch.save(
        {
            "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
            "hyper_parameters": {"config": {"model": asdict(config)}},
        },
        path,
    )


def read_clip(shared_data):
    """The first frames of a real clip, uint8 [T, 3, H, W], and its masks bool [T, H, W]."""
    folder = shared_data / "pumavos_chair"
    images = sorted((folder / "JPEGImages").glob("*.jpg"))[:NUM_FRAMES]
    labels = sorted((folder / "Annotations").glob("*.png"))[:NUM_FRAMES]
    frames = [
        np.asarray(Image.open(p).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)) for p in images
    ]
    masks = [np.asarray(Image.open(p).resize((SIZE, SIZE), Image.Resampling.NEAREST)) > 0 for p in labels]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(masks))


def fit_briefly(model: SAM2Model, images, masks, steps: int = 120) -> None:
    """Enough steps for masks that follow the object, so that agreement means something."""
    criterion = SAM2TrainingLoss()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.train()
    for step in range(steps):
        start = step % (NUM_FRAMES - 1)
        target = masks[None, start : start + 2, None]
        out = model(images[None, start : start + 2], target)
        loss = criterion(out["pred_masks"], target, scored=out["scored"], steps=out["steps"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def stock_masks(yaml, checkpoint, images, mask, folder) -> torch.Tensor:
    """Masks bool [T, H, W] of SAM 2's own video predictor, post-processing off."""
    from sam2.build_sam import build_sam2_video_predictor

    set_up_hydra()
    predictor = build_sam2_video_predictor(
        f"//{yaml}", str(checkpoint), device="cpu", apply_postprocessing=False
    )
    # Its loader takes JPEG only: the frames are put instead of what it read.
    folder.mkdir()
    for index, frame in enumerate(images):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / f"{index:05d}.jpg")
    state = predictor.init_state(str(folder), offload_video_to_cpu=True)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    state["images"] = (images.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    state["cached_features"].clear()
    predictor.add_new_mask(state, 0, 1, mask)
    return torch.stack([logits[0, 0] > 0 for _, _, logits in predictor.propagate_in_video(state)])


def test_the_stock_predictor_agrees_on_a_real_clip(shared_data, tmp_path):
    images, masks = read_clip(shared_data)
    model = nano_model(multimask_output_for_tracking=False, postprocessing="none")
    fit_briefly(model, images, masks)
    write_training_checkpoint(tmp_path / "last.ckpt", model)
    yaml = export_checkpoint(tmp_path / "last.ckpt", tmp_path / "sam2.pt")

    theirs = stock_masks(yaml, tmp_path / "sam2.pt", images, masks[0], tmp_path / "frames")
    given = [prompt("mask", masks[0], 0)]
    ours = torch.stack([f.masks[0] > 0 for f in model.propagate(images, given, NUM_FRAMES)])

    def iou(a, b):
        return ((a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1).clamp(min=1)).mean().item()

    assert iou(ours[1:], masks[1:]) > 0.3, "the masks are not alive enough to compare"
    # The prompted frame's output is the prompt, which the predictor shows at a quarter of the size.
    assert iou(ours[1:], theirs[1:]) >= 0.98


def test_the_export_loads_strictly_with_the_trained_architecture(tmp_path):
    from sam2.build_sam import build_sam2

    set_up_hydra()
    model = nano_model(seed=3, num_maskmem=4)
    write_training_checkpoint(tmp_path / "last.ckpt", model)
    yaml = export_checkpoint(tmp_path / "last.ckpt", tmp_path / "out" / "sam2.pt")
    stock = build_sam2(
        f"//{yaml}", str(tmp_path / "out" / "sam2.pt"), device="cpu", apply_postprocessing=False
    )
    assert stock.num_maskmem == 4
    assert stock.image_size == SIZE
    for name, value in stock.state_dict().items():
        assert torch.equal(value, model.network.state_dict()[name]), name


def test_what_is_no_training_checkpoint_is_refused(tmp_path):
    torch.save({"model": nano_model().network.state_dict()}, tmp_path / "meta.pt")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        export_checkpoint(tmp_path / "meta.pt", tmp_path / "out.pt")


def test_an_export_is_exported_again_as_it_is(tmp_path):
    model = nano_model(seed=3, num_maskmem=4)
    write_training_checkpoint(tmp_path / "last.ckpt", model)
    first = export_checkpoint(tmp_path / "last.ckpt", tmp_path / "sam2.pt")
    second = export_checkpoint(tmp_path / "sam2.pt", tmp_path / "again.pt")
    assert second.read_text() == first.read_text()
    again = torch.load(tmp_path / "again.pt", weights_only=True)["model"]
    assert all(torch.equal(value, model.network.state_dict()[name]) for name, value in again.items())


def test_a_refused_export_leaves_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export_checkpoint(tmp_path / "missing.ckpt", tmp_path / "new" / "folder" / "out.pt")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_cut_off_leaves_what_was_there(tmp_path, monkeypatch):
    write_training_checkpoint(tmp_path / "last.ckpt", nano_model())
    (tmp_path / "out.pt").write_text("an export of before")

    def fill_the_disk(content, path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(CheckpointError, match=r"out\.pt: cannot be written: No space left"):
        export_checkpoint(tmp_path / "last.ckpt", tmp_path / "out.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "out.pt"]
    assert (tmp_path / "out.pt").read_text() == "an export of before"


def test_outputs_that_would_destroy_something_are_refused(tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    write_training_checkpoint(checkpoint, nano_model())
    before = checkpoint.read_bytes()
    (tmp_path / "file").write_text("x")
    cases = {
        checkpoint: "is the checkpoint itself",
        tmp_path / "tuned.yaml": "the YAML is written beside",
        tmp_path: "is a folder",
        tmp_path / "file" / "tuned.pt": "cannot be written",
    }
    for out, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            export_checkpoint(checkpoint, out)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ([1], "carries no configuration"),
        (
            {"config_path": 7},
            r"odd\.ckpt: its configuration cannot be read: model.config_path=7: must be a str",
        ),
        ({"image_size": "x"}, r"odd\.ckpt: its configuration cannot be read: model.image_size='x'"),
        ({"of_the_future": 1}, r"model.of_the_future: unknown key.*version of sam2vt that wrote it"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_message(tmp_path, model, message):
    checkpoint, out = tmp_path / "odd.ckpt", tmp_path / "sam2.pt"
    torch.save({"state_dict": {}, "hyper_parameters": {"config": {"model": model}}}, checkpoint)
    with pytest.raises(CheckpointError, match=message):
        export_checkpoint(checkpoint, out)
    assert not out.exists()
