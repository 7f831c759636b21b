"""The memory attention over packed objects, against SAM 2's own on each object."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.memory import Entry, MemoryBank
from sam2vt.core.model.memory_attention import attend_frames, attend_memory, read_memory

from .conftest import make_clips, nano_model, prompt

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
def test_it_equals_sam2s_own(training, frame, conditioning, others, settings) -> None:
    network = nano_model(**settings).network.train(training)
    with torch.no_grad():
        network.maskmem_tpos_enc.normal_()
    bank = filled_bank(network, conditioning, others)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(TOKENS, 1, network.hidden_dim, generator=generator)
    codes = torch.randn(TOKENS, 1, network.hidden_dim, generator=generator)
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
    attended = attend_frames(network, image, codes).expand(-1, OBJECTS, -1)
    ours = attend_memory(network, attended, codes, read_memory(network, bank, frame, NUM_FRAMES))
    torch.testing.assert_close(ours.permute(1, 2, 0), theirs.flatten(2), rtol=1e-5, atol=1e-5)


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
