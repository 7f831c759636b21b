"""`SAM2Model`: loading, inputs, whole videos, freezing."""

from __future__ import annotations

import inspect
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sam2vt.config import ModelConfig
from sam2vt.core.model.checkpoints import load_weights, network_state
from sam2vt.core.model.sam2 import SAM2Model, build_from_config, create_sam2_model
from sam2vt.core.model.tracking.heads import NOT_TRACKED_LOGIT
from sam2vt.errors import CheckpointError, ConfigError, DataError

from .conftest import NANO, SIZE, make_clips, nano_model, prompt


def test_nothing_runs_before_load():
    images, masks = make_clips(1, 2, 1)
    model = SAM2Model(None, NANO, image_size=SIZE)
    assert not model.loaded
    with pytest.raises(CheckpointError, match="load"):
        model(images, masks)
    with pytest.raises(CheckpointError, match="load"):
        model.configure_for_training(["*"])
    assert model.load("cpu") is model
    assert model.loaded


def test_attributes_hold_what_was_given():
    model = SAM2Model("a.pt", "b.yaml", ["memory_attention"], "cpu", 256, 5)
    assert (model.checkpoint_path, model.config_path, model.trainable_modules) == (
        "a.pt",
        "b.yaml",
        ["memory_attention"],
    )
    assert (model.device, model.image_size, model.num_maskmem) == ("cpu", 256, 5)
    names = list(inspect.signature(create_sam2_model).parameters)
    assert names == ["checkpoint_path", "config_path", "trainable_modules", "device", "kwargs"]


def test_without_prompts_each_object_is_prompted_where_it_appears():
    images, masks = make_clips(2, 4, 3)
    masks[0, :2, 1] = False  # appears on frame 2
    masks[0, :, 2] = False  # padding
    valid = torch.ones(2, 4, 3, dtype=torch.bool)
    valid[1, 0, 0] = valid[0, :, 2] = False  # known from frame 1 on
    model = nano_model().eval()
    first = {(0, 0): 0, (0, 1): 2, (1, 0): 1, (1, 1): 0, (1, 2): 0}
    given = [
        [prompt("mask", masks[b, t, n], n, t) for (clip, n), t in first.items() if clip == b] for b in (0, 1)
    ]
    with torch.no_grad():
        ours = model(images, masks, valid_masks=valid)
        theirs = model(images, masks, given, valid_masks=valid)
    assert torch.equal(ours["pred_masks"], theirs["pred_masks"])
    assert not ours["scored"][0, :, 2].any()
    assert (ours["pred_masks"][0, :, 2] == NOT_TRACKED_LOGIT).all()


def test_a_datapoint_without_prompts_prompts_where_objects_appear():
    images, masks = make_clips(1, 3, 2)
    masks[0, 0, 1] = False
    model = nano_model().eval()
    normalised = (images.float() / 255 - model.pixel_mean) / model.pixel_std
    point = SimpleNamespace(
        img_batch=normalised.transpose(0, 1),
        masks=masks[0],
        obj_to_frame_idx=torch.tensor([[[t, 0], [t, 0]] for t in range(3)]),
    )
    with torch.no_grad():
        ours = model(None, batched_video_datapoint=point)
        theirs = model(normalised, masks)
    assert torch.equal(ours["pred_masks"], theirs["pred_masks"])
    assert ours["scored"][0].tolist() == [[False, False], [True, False], [True, True]]


def test_prompts_as_lists_and_arrays():
    images, masks = make_clips(1, 2, 3)
    tensors = [prompt(kind, masks[0, 0, n], n) for n, kind in enumerate(("point", "box", "mask"))]
    model = nano_model().eval()
    with torch.no_grad():
        expected = model(images, prompts=tensors)["pred_masks"]
        for change in (lambda value: value.tolist(), lambda value: value.numpy()):
            plain = [
                {name: change(each) if isinstance(each, torch.Tensor) else each for name, each in one.items()}
                for one in tensors
            ]
            assert torch.equal(model(images, prompts=[plain])["pred_masks"], expected)
    for coords in ([["left", 2.0]], [[1.0, 2.0], [3.0]]):
        wrong = {"type": "point", "point_coords": coords, "point_labels": [1]}
        with pytest.raises(DataError, match=r"prompt 0 of clip 0 .*'point_coords' is no array of numbers"):
            model(images, prompts=[wrong])


def test_colours_from_0_to_1_are_warned_of_once(caplog):
    images, masks = make_clips(1, 2, 1)
    model = nano_model().eval()
    with torch.no_grad():
        model((images.float() / 255 - model.pixel_mean) / model.pixel_std, masks)
        assert "count as normalised" not in caplog.text
        for _ in range(2):
            model(images.float() / 255, masks)
        nano_model().eval()(images.float(), masks)
    assert caplog.text.count("floats from 0 to 1 count as normalised; give uint8") == 1
    assert caplog.text.count("floats from 0 to 255 count as normalised; give uint8") == 1


def test_images_of_half_precision_and_arrays():
    images, masks = make_clips(1, 2, 1)
    model = nano_model().eval()
    normalised = (images.float() / 255 - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        half, full = (model(each, masks)["pred_masks"] for each in (normalised.half(), normalised))
    assert torch.allclose(half, full, atol=0.1)
    with pytest.raises(
        DataError, match=r"images: a ndarray; needed is a tensor, as torch.from_numpy makes it"
    ):
        model(images.numpy(), masks)
    with pytest.raises(DataError, match=r"prompt 0 of clip 0 is a str; allowed is a dict"):
        model(images, prompts=["x"])


def test_a_network_without_object_pointers(tmp_path):
    images, masks = make_clips(1, 3, 1)
    torch.save({"model": nano_model(seed=1).network.state_dict()}, tmp_path / "with.pt")
    model = nano_model(use_obj_ptrs_in_encoder=False).train()
    load_weights(model.network, str(tmp_path / "with.pt"))
    assert not any("ptr" in name for name in model.network.state_dict() if "tpos" not in name)
    out = model(images, masks, [[prompt("point", masks[0, 0, 0], 0)]])
    out["pred_masks"].sum().backward()
    assert model.network.memory_attention.layers[0].linear1.weight.grad.any()


def test_mask_prompts_on_frame_zero_are_the_default():
    images, masks = make_clips(2, 3, 2)
    model = nano_model().eval()
    with torch.no_grad():
        given = [[prompt("mask", masks[b, 0, n], n) for n in range(2)] for b in range(2)]
        assert torch.equal(model(images, masks)["pred_masks"], model(images, masks, given)["pred_masks"])
        flat = model(images[:1], masks[:1], given[0])
        assert torch.equal(flat["pred_masks"], model(images[:1], masks[:1], given[:1])["pred_masks"])
    assert model(images, masks)["pred_masks_high_res"].shape == (2, 3, 2, SIZE, SIZE)


def test_float_images_are_taken_as_normalised():
    images, masks = make_clips(1, 2, 1)
    model = nano_model().eval()
    normalised = (images.float() / 255 - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        assert torch.allclose(
            model(images, masks)["pred_masks"], model(normalised, masks)["pred_masks"], atol=1e-5
        )


def test_a_datapoint_of_sam2_gives_the_same():
    from training.utils.data_utils import BatchedVideoDatapoint, BatchedVideoMetaData

    images, masks = make_clips(2, 3, 2)
    model = nano_model().eval()
    frames = torch.stack([torch.tensor([[t, 0], [t, 0], [t, 1], [t, 1]]) for t in range(3)])
    point = BatchedVideoDatapoint(
        img_batch=((images.float() / 255 - model.pixel_mean) / model.pixel_std).transpose(0, 1),
        obj_to_frame_idx=frames.int(),
        masks=masks.permute(1, 0, 2, 3, 4).flatten(1, 2),
        metadata=BatchedVideoMetaData(
            unique_objects_identifier=torch.zeros(3, 4, 3, dtype=torch.long),
            frame_orig_size=torch.zeros(3, 4, 2, dtype=torch.long),
        ),
        dict_key="all",
        batch_size=[3],
    )
    with torch.no_grad():
        ours = model(images, masks)["pred_masks"]
        assert torch.allclose(model(None, batched_video_datapoint=point)["pred_masks"], ours, atol=1e-5)


def point(x, y, label=1):
    coords, labels = torch.tensor([[x, y]]), torch.tensor([label], dtype=torch.int32)
    return [{"type": "point", "point_coords": coords, "point_labels": labels}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, m, p: (i[:, :, :, :64], m, p), r"images: shape .*\[B, T, 3, 128, 128\]"),
        (lambda i, m, p: (i, m[..., :64], p), r"masks: shape"),
        (lambda i, m, p: (i, None, None), "give prompts"),
        (lambda i, m, p: (i, m, [p, p]), "lists for 2 clips, the images hold 1"),
        (lambda i, m, p: (i, m, [[{**p[0], "type": "scribble"}]]), "scribble.*point, box, mask"),
        (lambda i, m, p: (i, m, [[{**p[0], "frame_index": 7}]]), "frame_index is outside the clip's 0 to 1"),
        (lambda i, m, p: (i, m, [[{**p[0], "object_index": 3}]]), "masks hold 1 object slots"),
        (lambda i, m, p: (i, m, [[p[0], p[0]]]), "already has a prompt"),
        (lambda i, m, p: (i, m, [[{**p[0], "mask": m[0, 0, 0, :9]}]]), "'mask' has shape"),
        (lambda i, m, p: (i, m, [[{"type": "point"}]]), "point_coords"),
        (lambda i, m, p: (i.int(), m, p), "dtype torch.int32; uint8"),
        (lambda i, m, p: (i, m, [point(9.0, 9.0, label=9)]), r"point_labels \[9\]; allowed are"),
        (lambda i, m, p: (i, m, [point(500.0, 9.0)]), "within the model's 128 x 128"),
        (lambda i, m, p: (i, m, [point(float("nan"), 9.0)]), "within the model's 128 x 128"),
    ],
)
def test_inputs_that_do_not_fit_say_why(change, message):
    images, masks = make_clips(1, 2, 1)
    model = nano_model().eval()
    images, masks, prompts = change(images, masks, [prompt("mask", masks[0, 0, 0], 0)])
    with pytest.raises(DataError, match=message):
        model(images, masks, prompts)


def test_a_whole_video_equals_the_clip():
    images, masks = make_clips(1, 6, 3)
    given = [
        prompt("mask", masks[0, 0, 0], 0),
        prompt("point", masks[0, 0, 1], 1),
        prompt("box", masks[0, 2, 2], 2, 2),
    ]
    model = nano_model(postprocessing="none").eval()
    with torch.no_grad():
        clip = model(images, masks, given)
    frames = list(model.propagate(images[0], given, 6))
    assert [f.object_indices for f in frames] == [[0, 1]] * 2 + [[0, 1, 2]] * 4
    for frame in frames:
        expected = clip["pred_masks_high_res"][0, frame.frame_index, frame.object_indices]
        torch.testing.assert_close(frame.masks, expected, atol=2e-4, rtol=1e-4)


def test_a_long_video_keeps_a_bounded_memory():
    images, masks = make_clips(1, 2, 1)
    model = nano_model(num_maskmem=3, max_obj_ptrs_in_encoder=4).train()
    import sam2vt.core.model.tracking.memory as memory

    sizes = []
    forget = memory.MemoryBank.forget_before

    def counting(bank, frame, after):
        forget(bank, frame, after)
        sizes.append(len(bank.others) + len(bank.conditioning))

    memory.MemoryBank.forget_before = counting
    try:
        frames = (images[0, i % 2] for i in range(30))
        assert len(list(model.propagate(frames, [prompt("mask", masks[0, 0, 0], 0)], 30))) == 30
    finally:
        memory.MemoryBank.forget_before = forget
    assert max(sizes) == sizes[-1] <= 6
    assert model.training


def test_forgetting_changes_nothing():
    images, masks = make_clips(1, 14, 1)
    model = nano_model(num_maskmem=3, max_obj_ptrs_in_encoder=4, postprocessing="none").eval()
    with torch.no_grad():
        clip = model(images, masks)["pred_masks_high_res"][0, :, 0]
    streamed = torch.cat(
        [f.masks for f in model.propagate(images[0], [prompt("mask", masks[0, 0, 0], 0)], 14)]
    )
    torch.testing.assert_close(streamed, clip, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("patterns", "trains", "frozen"),
    [
        (
            ["memory_attention"],
            ["memory_attention.norm.weight", "maskmem_tpos_enc"],
            ["memory_encoder.out_proj.bias"],
        ),
        (
            ["mask_decoder"],
            ["sam_mask_decoder.conv_s0.weight", "no_obj_ptr"],
            ["sam_prompt_encoder.no_mask_embed.weight"],
        ),
        (["image_encoder.neck"], ["image_encoder.neck.convs.0.conv.bias"], ["image_encoder.trunk.pos_embed"]),
        (
            ["image_encoder.trunk.blocks.[34]"],
            ["image_encoder.trunk.blocks.4.norm1.bias"],
            ["image_encoder.trunk.blocks.2.norm1.bias"],
        ),
        (["*"], ["image_encoder.trunk.pos_embed", "no_mem_embed"], ["no_mem_pos_enc"]),
        ([], [], ["no_mem_embed"]),
    ],
)
def test_patterns_choose_what_trains(patterns, trains, frozen):
    state = {n: p.requires_grad for n, p in nano_model(trainable_modules=patterns).network.named_parameters()}
    assert all(state[name] for name in trains)
    assert not any(state[name] for name in frozen)


def test_a_pattern_without_a_match_lists_what_exists():
    with pytest.raises(ConfigError, match="memory_atention.*memory_attention, memory_encoder.*no_obj_ptr"):
        nano_model(trainable_modules=["memory_atention"])


def test_counts_and_freezing():
    model = nano_model(trainable_modules=["memory_encoder"])
    assert 0 < model.count_trainable_parameters() < model.count_total_parameters()
    assert 1_000_000 <= model.count_total_parameters() <= 2_000_000
    model.freeze_all_parameters()
    assert model.count_trainable_parameters() == 0


def test_arguments_are_the_settings_of_the_model():
    """`max_objects` is the data's, `ema` the training's; `further` takes other fields of SAM 2's network."""
    arguments = inspect.signature(SAM2Model).parameters
    assert arguments.keys() - {"further"} == {f.name for f in fields(ModelConfig)} - {"max_objects", "ema"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_maskmem": 0}, "num_maskmem=0: must be at least 1"),
        ({"backbone_stride": 8}, "backbone_stride=8: must be 16"),
        ({"encoder_precision": "fp8"}, "encoder_precision='fp8': must be one of bf16"),
        ({"recompute": "image_encoder"}, "recompute='image_encoder': must be a list of strings"),
        ({"compile": ["decoder"]}, "compile=.'decoder'.: must be a list of image_encoder, memory_attention"),
        ({"compile": None}, "compile=null: must be a list of strings"),
        ({"bptt_frames": 0}, "bptt_frames=0: must be at least 1"),
        ({"num_correction_clicks": 1.5}, "num_correction_clicks=1.5: must be an integer"),
        ({"correction_from_gt": float("nan")}, "correction_from_gt=nan: must be between 0 and 1"),
        ({"memory_dropout": 1.0}, "memory_dropout=1.0: must be from 0 to below 1"),
        ({"use_obj_ptrs_in_encoder": "no"}, "use_obj_ptrs_in_encoder='no': must be true or false"),
        (
            {"trainable_modules": "mask_decoder"},
            "trainable_modules='mask_decoder': must be a list of strings",
        ),
        ({"device": "warp9"}, "device='warp9': must be auto, cpu, cuda, cuda:<index> or mps"),
        ({"image_size": 0, "pad_memory": 1}, "pad_memory=1: must be true or false\nmodel.image_size=0: must"),
    ],
)
def test_values_that_are_not_allowed(given, words):
    with pytest.raises(ConfigError, match=rf"model\.{words}"):
        SAM2Model(**given)


def test_paths_and_devices_are_taken_as_such(tmp_path):
    model = SAM2Model(
        tmp_path / "a.pt", Path(NANO), ("*",), torch.device("cpu"), SIZE, max_cond_frames_in_attn=2
    )
    assert (model.checkpoint_path, model.config_path) == (str(tmp_path / "a.pt"), NANO)
    assert (model.trainable_modules, model.device) == (["*"], "cpu")
    assert model.architecture == {"num_maskmem": 7, "max_cond_frames_in_attn": 2}


def test_a_wrong_field_or_size_is_one_clear_error():
    with pytest.raises(ConfigError, match=r"num_maskmen: unknown key, did you mean model.num_maskmem\?"):
        SAM2Model(None, NANO, num_maskmen=3)
    with pytest.raises(ConfigError, match=r"model\.max_objects: leave it out"):
        SAM2Model(None, NANO, max_objects=3)
    with pytest.raises(ConfigError, match="model.speedups='fast': must be one of auto, none"):
        nano_model(speedups="fast")
    with pytest.raises(ConfigError, match="image_size=100: must be a positive multiple of 32"):
        SAM2Model(None, NANO, image_size=100)
    with pytest.raises(ConfigError, match="no network YAML at 'nowhere.yaml'"):
        SAM2Model(None, "nowhere.yaml").load("cpu")


def test_the_configuration_reaches_the_network():
    config = ModelConfig(
        config_path=NANO, image_size=SIZE, device="cpu", num_maskmem=4, max_obj_ptrs_in_encoder=5,
        multimask_output_in_sam=False, multimask_output_for_tracking=False,
        use_signed_tpos_enc_to_obj_ptrs=False, num_correction_clicks=2, bptt_frames=3,
    )  # fmt: skip
    model = build_from_config(config)
    assert not model.loaded
    network = model.load().network
    assert (network.num_maskmem, network.max_obj_ptrs_in_encoder) == (4, 5)
    assert not network.multimask_output_in_sam
    assert not network.use_signed_tpos_enc_to_obj_ptrs
    assert (model.num_correction_clicks, model.bptt_frames) == (2, 3)


def test_checkpoints_load_strictly_from_all_layouts(tmp_path):
    source = nano_model(seed=1)
    state = source.network.state_dict()
    layouts = {
        "meta": {"model": state},
        "bare": state,
        "training": {"state_dict": {f"model.network.{n}": v for n, v in state.items()}},
    }
    for name, content in layouts.items():
        path = tmp_path / f"{name}.pt"
        torch.save(content, path)
        for location in (str(path), path.as_uri()):
            loaded = SAM2Model(location, NANO, device="cpu", image_size=SIZE).load()
            assert all(torch.equal(v, state[n]) for n, v in loaded.network.state_dict().items())


def test_a_shorter_memory_keeps_the_fitting_position_codes(tmp_path):
    source = nano_model(seed=1)
    torch.save({"model": source.network.state_dict()}, tmp_path / "a.pt")
    short = SAM2Model(str(tmp_path / "a.pt"), NANO, device="cpu", image_size=SIZE, num_maskmem=3).load()
    codes = source.network.maskmem_tpos_enc
    assert torch.equal(short.network.maskmem_tpos_enc, torch.cat([codes[:2], codes[-1:]]))


def test_bad_checkpoints_say_what_is_wrong(tmp_path):
    path = tmp_path / "c.pt"

    def load():
        return SAM2Model(str(path), NANO, device="cpu", image_size=SIZE).load()

    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load()
    torch.save({"model": Fraction(1, 2)}, path)
    with pytest.raises(CheckpointError, match="plain tensors"):
        load()
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read|plain tensors"):
        load()
    state = dict(nano_model().network.state_dict())
    state["memory_encoder.out_proj.bias"] = torch.zeros(3)
    del state["no_mem_embed"]
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"missing no_mem_embed.*out_proj.bias is \(3,\)"):
        load()
    state = dict(nano_model().network.state_dict())
    state["memory_encoder.out_proj.bias"] = torch.full_like(
        state["memory_encoder.out_proj.bias"], float("nan")
    )
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"NaN or infinity, such as memory_encoder.out_proj.bias"):
        load()
    torch.save({"model": {}}, path)
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load()
    assert network_state({"model": {"a": torch.ones(1)}}, "x").keys() == {"a"}
