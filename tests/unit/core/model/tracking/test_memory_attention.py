"""The memory attention over packed objects, against SAM 2's own on each object."""

from __future__ import annotations

import copy

import pytest
import torch
from omegaconf import OmegaConf

from sam2vt.core.model.build import replace_modules, replacements
from sam2vt.core.model.network_yaml import network_yaml
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.model.tracking.memory import Entry, MemoryBank
from sam2vt.core.model.tracking.memory_attention import attend_frames, attend_memory, read_memory
from sam2vt.errors import ConfigError

from ..conftest import make_clips, nano_model, prompt

NO_POINTERS = dict.fromkeys(
    (
        "use_obj_ptrs_in_encoder",
        "add_tpos_enc_to_obj_ptrs",
        "proj_tpos_enc_in_obj_ptrs",
        "fixed_no_obj_ptr",
        "pred_obj_scores",
        "pred_obj_scores_mlp",
    ),
    False,
)
TOKENS, OBJECTS, NUM_FRAMES = 64, 3, 12


def filled_bank(network, conditioning: tuple[int, ...], others: tuple[int, ...]) -> MemoryBank:
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank()
    positions = torch.randn(TOKENS, 1, network.mem_dim, generator=generator)
    for frame in (*conditioning, *others):
        tokens = torch.randn(TOKENS, OBJECTS, network.mem_dim, generator=generator)
        pointer = torch.randn(OBJECTS, network.hidden_dim, generator=generator)
        bank.add(frame, Entry(tokens, positions, pointer), frame in conditioning)
    return bank


def stock_entries(entries: dict[int, Entry]) -> dict[int, dict]:
    side = int(TOKENS**0.5)

    def as_map(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.permute(1, 2, 0).unflatten(2, (side, side))

    return {
        frame: {
            "maskmem_features": as_map(entry.tokens),
            "maskmem_pos_enc": [as_map(entry.positions.expand(-1, OBJECTS, -1))],
            "obj_ptr": entry.pointer,
        }
        for frame, entry in entries.items()
    }


def stock_attention(network) -> torch.nn.Module:
    """SAM 2's own, with the same weights."""
    attention = copy.deepcopy(network.memory_attention)
    replace_modules(attention, {ours: stock for stock, ours in replacements().items()})
    return attention


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("frame", "conditioning", "others", "settings"),
    [
        (1, (0,), (), {}),
        (9, (0,), tuple(range(1, 9)), {}),
        (4, (0, 7), (1, 2, 3), {}),
        (8, (0, 3, 5, 11), (1, 2, 4, 6, 7), {"max_cond_frames_in_attn": 2}),
        (9, (0,), tuple(range(1, 9)), {"memory_temporal_stride_for_eval": 2}),
        (9, (0, 11), tuple(range(1, 9)), {"use_signed_tpos_enc_to_obj_ptrs": False}),
        (9, (0, 11), tuple(range(1, 9)), {"only_obj_ptrs_in_the_past_for_eval": False}),
        (5, (0,), (1, 2, 3, 4), {"add_tpos_enc_to_obj_ptrs": False, "proj_tpos_enc_in_obj_ptrs": False}),
        (5, (0,), (1, 2, 3, 4), {"proj_tpos_enc_in_obj_ptrs": False}),
        (5, (0,), (1, 2, 3, 4), NO_POINTERS),
        (5, (0,), (1, 2, 3, 4), {"max_obj_ptrs_in_encoder": 3, "num_maskmem": 3}),
    ],
)
def test_it_equals_sam2s_own(training, frame, conditioning, others, settings, pad) -> None:
    network = nano_model(**settings).network.train(training)
    with torch.no_grad():
        network.maskmem_tpos_enc.normal_()
    bank = filled_bank(network, conditioning, others)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(TOKENS, 1, network.hidden_dim, generator=generator)
    codes = torch.randn(TOKENS, 1, network.hidden_dim, generator=generator)
    ours = network.memory_attention
    network.memory_attention = stock_attention(network)
    theirs = network._prepare_memory_conditioned_features(
        frame_idx=frame,
        is_init_cond_frame=False,
        current_vision_feats=[image.expand(-1, OBJECTS, -1)],
        current_vision_pos_embeds=[codes.expand(-1, OBJECTS, -1)],
        feat_sizes=[(8, 8)],
        output_dict={
            "cond_frame_outputs": stock_entries(bank.conditioning),
            "non_cond_frame_outputs": stock_entries(bank.others),
        },
        num_frames=NUM_FRAMES,
    )
    network.memory_attention = ours
    attended = attend_frames(network, image, codes).expand(-1, OBJECTS, -1)
    selection = bank.select(frame, network.max_cond_frames_in_attn)
    memory = read_memory(network, selection, frame, NUM_FRAMES, pad)
    found = attend_memory(network, attended, codes, memory)
    torch.testing.assert_close(found.permute(1, 2, 0), theirs.flatten(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"num_maskmem": 3, "max_obj_ptrs_in_encoder": 3}])
def test_padded_memory_has_one_shape(settings) -> None:
    images, masks = make_clips(2, 5, 1)
    prompts = [[prompt("mask", masks[b, 0, 0], 0)] for b in range(2)]
    results = []
    for pad in (False, True):
        model = nano_model(pad_memory=pad, trainable_modules=["*"], memory_dropout=0.0, **settings).train()
        read = []
        model.network.memory_attention.register_forward_pre_hook(
            lambda module, inputs, read=read: read.append(inputs[2])
        )
        out = model(images, masks, prompts)
        out["pred_masks"].square().mean().backward()
        results.append((out["pred_masks"].detach(), [p.grad for p in model.parameters()], read))
    (plain, gradients, growing), (padded, their_gradients, constant) = results
    torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(their_gradients, gradients, rtol=1e-4, atol=1e-6)
    assert len({memory.tokens.shape for memory in constant}) == 1
    assert {memory.num_pointer_tokens for memory in constant} == {growing[-1].num_pointer_tokens}
    # Nothing is added on the frame that remembers most.
    assert constant[-1].tokens.shape == growing[-1].tokens.shape
    assert constant[-1].mask.all()
    assert not constant[0].mask.all()


def test_only_rotary_attention_sees_what_is_padding(tmp_path) -> None:
    network = OmegaConf.load(network_yaml("network/sam2.1_nano.yaml"))
    layer = network.model.memory_attention.layer
    layer.cross_attention = {
        "_target_": "sam2.modeling.sam.transformer.Attention",
        **{name: layer.cross_attention[name] for name in ("embedding_dim", "num_heads", "downsample_rate")},
        "kv_in_dim": layer.cross_attention.kv_in_dim,
    }
    OmegaConf.save(network, tmp_path / "plain.yaml")
    model = SAM2Model(None, str(tmp_path / "plain.yaml"), image_size=128, pad_memory=True)
    with pytest.raises(ConfigError, match=r"model.pad_memory.*RoPEAttention"):
        model.load("cpu")


def test_the_first_self_attention_runs_once_for_all_frames_and_objects() -> None:
    images, masks = make_clips(2, 4, 3)
    prompts = [[prompt("mask", masks[b, 0, n], n) for n in range(3)] for b in range(2)]
    model = nano_model().train()
    seen = []
    first = model.network.memory_attention.layers[0].self_attn
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    model(images, masks, prompts)
    # The prompted frame of each clip is spared, as SAM 2 does.
    assert seen == [2 * 3]


def test_a_video_attends_once_a_frame() -> None:
    images, masks = make_clips(1, 4, 3)
    model = nano_model()
    seen = []
    first = model.network.memory_attention.layers[0].self_attn
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    given = [prompt("point", masks[0, n % 2, n], n, frame_index=n % 2) for n in range(3)]
    list(model.propagate(images[0], given, 4))
    assert seen == [1, 1, 1]
