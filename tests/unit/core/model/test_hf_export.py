"""Exports for transformers, read back by sam2vt itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sam2vt import cli
from sam2vt.core.model.export import export_to_transformers
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.prediction.weights import open_weights
from sam2vt.core.storage.fetching import pinned
from sam2vt.core.storage.hf_folder import FILES
from sam2vt.errors import CheckpointError

from .conftest import NANO, make_clips, nano_model, prompt
from .test_export import stock_masks, write_training_checkpoint
from .wide_nano import wide_export


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[SAM2Model, Path]:
    folder = tmp_path_factory.mktemp("hf")
    model, path = wide_export(folder)
    return model, export_to_transformers(str(path), folder / "tuned")


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported[1], tmp_path / "copied"))


def same_bits(model: SAM2Model, other: SAM2Model) -> bool:
    ours, theirs = model.network.state_dict(), other.network.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_comes_back_bit_for_bit(exported) -> None:
    model, folder = exported
    assert {each.name for each in folder.iterdir()} == set(FILES)
    assert len({each.stat().st_mode for each in folder.iterdir()}) == 1  # who reads one can read all
    found = open_weights(str(folder), device="cpu")
    assert same_bits(model, found.model)
    assert (found.name, found.model.image_size) == ("tuned", 128)
    assert Path(found.path) == folder / "model.safetensors"
    images, masks = make_clips(1, 2, 1)
    given = [prompt("box", masks[0, 0, 0], 0)]
    ours, theirs = (list(each.eval().propagate(images[0], given, 2)) for each in (model, found.model))
    assert all(torch.equal(one.masks, other.masks) for one, other in zip(ours, theirs))


def test_a_folder_is_the_start_of_a_training(exported) -> None:
    model, folder = exported
    yaml = folder / "config.json"
    assert same_bits(model, SAM2Model(folder, yaml, device="cpu", image_size=128).load())
    assert pinned(str(folder)) == str(folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"does not fit the model of model.config_path .*its own is .*config"
    ):
        SAM2Model(folder, NANO, device="cpu", image_size=128).load()


def test_an_export_of_an_export_is_the_same(exported, tmp_path, capsys) -> None:
    _, folder = exported
    cli.main(["export", str(folder), str(tmp_path / "again"), "--to", "hf"])
    assert "Sam2VideoModel.from_pretrained" in capsys.readouterr().out
    for name in set(FILES) - {"README.md"}:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_an_export_for_sam2_of_a_folder_is_tracked_with(exported, tmp_path) -> None:
    model, folder = exported
    cli.main(["export", str(folder), str(tmp_path / "tuned.pt")])
    images, masks = make_clips(1, 2, 1)
    yaml = tmp_path / "tuned.yaml"
    found = stock_masks(yaml, tmp_path / "tuned.pt", images[0], masks[0, 0, 0], tmp_path / "frames")
    own = model.propagate(images[0], [prompt("mask", masks[0, 0, 0], 0)], 2)
    logits = torch.cat([F.interpolate(each.masks[None], found.shape[1:], mode="bilinear")[0] for each in own])
    assert (found == (logits > 0)).float().mean() > 0.99
    assert 0.05 < found.float().mean() < 0.95


def test_a_network_that_transformers_cannot_build_is_refused_by_name(tmp_path, capsys) -> None:
    write_training_checkpoint(tmp_path / "nano.ckpt", nano_model())
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(tmp_path / "nano.ckpt"), str(tmp_path / "out"), "--to", "hf"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "memory_attention.layer.cross_attention.kv_in_dim is 16, there 64" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"proj_tpos_enc_in_obj_ptrs": False}, "proj_tpos_enc_in_obj_ptrs is False, there True"),
        ({"memory_temporal_stride_for_eval": 2}, "memory_temporal_stride_for_eval is 2, there 1"),
        ({"soft_no_obj_ptr": True}, "soft_no_obj_ptr is True, there False"),
    ],
)
def test_fields_without_a_counterpart_are_named(tmp_path, fields, words: str) -> None:
    _, path = wide_export(tmp_path, **fields)
    with pytest.raises(CheckpointError, match=words):
        export_to_transformers(str(path), tmp_path / "out")


def test_a_shorter_memory_and_no_times_are_kept(tmp_path) -> None:
    fields = {
        "add_tpos_enc_to_obj_ptrs": False,
        "proj_tpos_enc_in_obj_ptrs": False,
        "no_obj_embed_spatial": False,
    }
    model, path = wide_export(tmp_path, num_maskmem=3, **fields)
    found = open_weights(str(export_to_transformers(str(path), tmp_path / "out")), device="cpu").model
    assert same_bits(model, found)
    assert found.network.num_maskmem == 3


def test_what_is_in_the_way_is_told(exported, tmp_path) -> None:
    _, folder = exported
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    for out, words in (
        (tmp_path / "file", "is a file; name a folder"),
        (tmp_path / "other", "holds other files"),
        (folder, "holds the checkpoint itself"),
    ):
        with pytest.raises(CheckpointError, match=words):
            export_to_transformers(str(folder / "model.safetensors"), out)


def _damage(folder: Path, kind: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    if kind == "no weights":
        weights.unlink()
    elif kind == "shards":
        weights.rename(folder / "model-00001-of-00002.safetensors")
    elif kind == "no config":
        config.unlink()
    elif kind == "other model":
        config.write_text(json.dumps({"model_type": "vit"}))
    elif kind == "other size":
        told = json.loads(config.read_text())
        told["vision_config"]["backbone_config"]["blocks_per_stage"] = [1, 1, 3, 1]
        config.write_text(json.dumps(told))
    elif kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no weights", "holds config.json and no weights; needed is model.safetensors"),
        ("shards", "holds config.json and weights in several files"),
        ("no config", "config.json: is missing"),
        ("other model", "model_type is 'vit'; needed is 'sam2_video'"),
        ("other size", "missing image_encoder.trunk.blocks.5"),
        ("cut off", "cannot be read, it may be cut off"),
    ],
)
def test_a_damaged_folder_is_one_message(copied: Path, capsys, kind: str, words: str) -> None:
    _damage(copied, kind)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(copied), str(copied.parent / "tuned.pt")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (copied.parent / "tuned.pt").exists()
