"""One call on a frame, with parts of the network that answer by script and note what they were given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam2vt.core.model.tracking import frame_call
from sam2vt.core.model.tracking.features import FrameFeatures
from sam2vt.core.model.tracking.frame_call import FrameCall, GroundTruth, TrackingRules, TrackingRun
from sam2vt.core.model.tracking.memory import MemoryBank

FRAME, NUM_FRAMES, NUM_PACKED, SIDE = 3, 6, 5, 16
ROWS = torch.tensor([4, 1, 0, 2])  # the call's objects among the packed ones
SCORES = torch.tensor([[2.0], [-2.0], [0.0], [1.0]])  # 0 is absent, too
PRESENT = torch.tensor([True, False, False, True])
NO_OBJECT, ABSENT = 100.0, -1024.0


def given(first=0.0, scores=SCORES, masks_each=3):
    """What the mask decoder returns for each object: mask m is of 4 x 4 logits, and m = 1 the best."""
    count = len(scores)
    masks = torch.linspace(-3, 3, count * masks_each * 16).reshape(count, masks_each, 4, 4) + first
    ious = torch.tensor([[0.2, 0.9, 0.5]]).repeat(count, 1)[:, :masks_each] + first
    tokens = torch.arange(count * masks_each).float().reshape(count, masks_each, 1) + first
    return masks, ious, tokens, scores


class Network:
    """SAM 2's network as far as a call reads it."""

    def __init__(self, *answers, **settings):
        self.answers = list(answers)
        self.prompted, self.decoded, self.encoded, self.asked = [], [], [], []
        self.image_size, self.num_maskmem, self.max_cond_frames_in_attn = SIDE, 7, -1
        self.no_mem_embed = torch.full((1, 1, 2), 1000.0)
        self.no_obj_ptr = torch.full((1, 1), NO_OBJECT)
        self.use_obj_ptrs_in_encoder = self.pred_obj_scores = True
        self.fixed_no_obj_ptr = self.soft_no_obj_ptr = False
        self.__dict__.update(settings)
        self.sam_prompt_encoder = _Encoder(self)

    def sam_mask_decoder(self, **inputs):
        self.decoded.append(inputs)
        return self.answers.pop(0)

    def obj_ptr_proj(self, token):
        return token

    def mask_downsample(self, masks):
        return F.avg_pool2d(masks, 4)

    def _use_multimask(self, prompted, points):
        self.asked.append((prompted, points))
        return f"answer {len(self.asked)}"

    def _encode_new_memory(self, levels, sizes, masks, scores, from_points):
        self.encoded.append((levels, sizes, masks, scores, from_points))
        memory = torch.arange(len(ROWS) * 12).float().reshape(len(ROWS), 3, 2, 2)
        return memory, [memory + 1, memory + 3, memory + 2]


class _Encoder:
    def __init__(self, network):
        self.network = network

    def __call__(self, **inputs):
        self.network.prompted.append(inputs)
        return "sparse", "dense"

    def get_dense_pe(self):
        return "codes"


@pytest.fixture(autouse=True)
def recomputes(monkeypatch):
    """Notes for each call whether it is recomputed."""
    noted = []

    def note(wanted, function, *inputs):
        noted.append((wanted, function.__name__))
        return function(*inputs)

    monkeypatch.setattr(frame_call, "recomputed", note)
    return noted


def features(fine=True):
    coarse = torch.arange(4 * len(ROWS) * 2).float().reshape(4, len(ROWS), 2)
    finer = torch.arange(16 * len(ROWS)).float().reshape(16, len(ROWS), 1)
    levels, sizes = ([finer, coarse], [(4, 4), (2, 2)]) if fine else ([coarse], [(2, 2)])
    return FrameFeatures(levels, torch.zeros(4, 1, 2), sizes)


def call(network, prompts=None, truth=None, corrected=False, attended=None, seen=None, before=None, **rules):
    run = TrackingRun(network, NUM_FRAMES, TrackingRules(**rules), truth)
    seen = features() if seen is None else seen
    return FrameCall(run, FRAME, ROWS, seen, attended, prompts, corrected, MemoryBank(), before)


def points():
    """Two clicks per object."""
    coords = torch.arange(len(ROWS) * 4).float().reshape(len(ROWS), 2, 2)
    labels = torch.tensor([1, 0])
    return [{"type": "point", "point_coords": each, "point_labels": labels} for each in coords]


def truth(decides=True, known=(True, True, False, False), present=(False, True, True, False)):
    """What is known of the call's four objects on its frame; elsewhere the opposite."""
    shape = (NUM_FRAMES, NUM_PACKED)
    of_known, of_present = torch.ones(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
    of_known[FRAME, ROWS], of_present[FRAME, ROWS] = torch.tensor(known), torch.tensor(present)
    masks = torch.zeros(*shape, SIDE, SIDE, dtype=torch.bool)
    for place, row in enumerate(ROWS.tolist()):
        masks[FRAME, row, : place + 1] = True
    return GroundTruth(masks, of_known, of_present, of_known.tolist(), decides)


def upsampled(masks):
    return F.interpolate(masks, (SIDE, SIDE), mode="bilinear", align_corners=False)


def blanked(masks, present):
    return torch.stack(
        [each if there else torch.full_like(each, ABSENT) for each, there in zip(masks, present)]
    )


# A mask prompt


def mask_prompts():
    """Two objects that are visible and two that are not; 16 x 12 pixels."""
    masks = torch.zeros(4, 16, 12, dtype=torch.bool)
    masks[0, 3:9, 2:6] = True
    masks[3, :, 0] = True
    return masks, [{"type": "mask", "mask": mask} for mask in masks]


def thinned(size):
    """The weights of a quarter's pixels: a triangle of four pixels to each side of its centre."""
    centres, places = np.arange(size // 4) * 4 + 2, np.arange(size) + 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - places) / 4)
    return weights / weights.sum(axis=1, keepdims=True)


def test_a_mask_prompt_is_the_output_of_its_frame():
    masks, prompts = mask_prompts()
    network = Network()
    output, entry = call(network, prompts).outputs(remember=False)
    high = masks.numpy() * 20.0 - 10
    assert torch.equal(output.rows, ROWS)
    assert np.array_equal(output.masks_high_res.numpy(), high)
    assert np.allclose(output.masks.numpy(), thinned(16) @ high @ thinned(12).T, atol=1e-5)
    assert output.ious.tolist() == [1, 1, 1, 1]
    assert output.object_score_logits.tolist() == [10, -10, -10, 10]
    assert (output.predicted, output.steps, entry) == (False, [], None)
    assert not network.decoded
    assert not network.encoded


def test_a_call_may_be_of_one_object():
    masks, prompts = mask_prompts()
    output, _ = call(Network(), prompts[:1]).outputs(remember=False)
    assert torch.equal(output.masks_high_res > 0, masks[:1])


def test_a_mask_prompts_output_is_on_the_objects_device_whatever_the_default_is():
    prompts = mask_prompts()[1]
    with torch.device("meta"):
        output, _ = call(Network(), prompts).outputs(remember=False)
    assert {each.device.type for each in output if isinstance(each, torch.Tensor)} == {"cpu"}


def test_the_memory_of_a_mask_prompt_is_of_the_mask_and_its_pointer_is_decoded(recomputes):
    masks, prompts = mask_prompts()
    network = Network(given())
    output, entry = call(network, prompts, recompute=("memory_encoder",)).outputs(remember=True)
    (levels, sizes, high_res, scores, from_points) = network.encoded[0]
    assert torch.equal(levels[0], features().levels[0])
    assert sizes == [(4, 4), (2, 2)]
    assert torch.equal(high_res[:, 0], output.masks_high_res)
    assert (scores.tolist(), from_points) == ([[1], [-1], [-1], [1]], False)
    assert (True, "_encode_new_memory") in recomputes
    # [K, M, h, w] becomes [h*w, K, M]; positions are the last level's, of one object.
    assert entry.tokens.shape == (4, 4, 3)
    assert entry.tokens[:, 2, 1].tolist() == [28, 29, 30, 31]
    assert entry.positions.shape == (4, 1, 3)
    assert entry.positions[:, 0, 1].tolist() == [6, 7, 8, 9]
    (inputs,), (decoded,) = network.prompted, network.decoded
    assert torch.equal(inputs["masks"], F.avg_pool2d(masks[:, None].float(), 4))
    assert inputs["points"][1].tolist() == [[-1]] * 4  # no point
    assert torch.equal(decoded["image_embeddings"], features().maps()[1])
    assert [level.shape for level in decoded["high_res_features"]] == [(4, 1, 4, 4)]
    assert decoded["multimask_output"] is False


TOKENS = torch.tensor([1.0, 4, 7, 10])  # of the masks with the highest IoU
HALF = torch.tensor([2.0, -2.0, 0.0, 1.0]).sigmoid()  # the share of presence that scores tell


@pytest.mark.parametrize(
    ("settings", "decides", "expected"),
    [
        # Visible are the first and the last; by their scores, too.
        ({}, False, TOKENS + NO_OBJECT * torch.tensor([0, 2, 2, 0])),
        ({}, None, TOKENS + NO_OBJECT * torch.tensor([0, 2, 2, 0])),
        ({"fixed_no_obj_ptr": True}, True, torch.tensor([1, NO_OBJECT, NO_OBJECT, 10])),
        ({"soft_no_obj_ptr": True}, False, TOKENS + NO_OBJECT * (1 - HALF + torch.tensor([0, 1, 1, 0]))),
        ({"soft_no_obj_ptr": True}, True, TOKENS + NO_OBJECT * torch.tensor([0, 2, 2, 0])),
        ({"pred_obj_scores": False}, False, TOKENS),
    ],
)
def test_the_pointer_of_a_mask_prompt(settings, decides, expected):
    _, prompts = mask_prompts()
    known = None if decides is None else truth(decides)
    _, entry = call(Network(given(), **settings), prompts, known).outputs(remember=True)
    torch.testing.assert_close(entry.pointer[:, 0], expected.float())


@pytest.mark.parametrize(("decides", "times"), [(False, [1, 1, 2, 0]), (True, [0, 2, 2, 0])])
def test_the_presence_of_a_mask_prompts_pointer_is_the_decoders_own_unless_the_truth_decides(decides, times):
    """The mask decides a second time in either case, as in SAM 2."""
    _, prompts = mask_prompts()
    answer = given(scores=torch.tensor([[-1.0], [1.0], [0.0], [1.0]]))
    _, entry = call(Network(answer), prompts, truth(decides)).outputs(remember=True)
    assert torch.equal(entry.pointer[:, 0], TOKENS + NO_OBJECT * torch.tensor(times))


def test_networks_without_pointers_decode_none():
    network = Network(use_obj_ptrs_in_encoder=False)
    _, entry = call(network, mask_prompts()[1]).outputs(remember=True)
    assert entry.pointer is None
    assert not network.decoded
    _, entry = call(Network(given(), use_obj_ptrs_in_encoder=False)).outputs(remember=True)
    assert entry.pointer is None


def test_a_mask_prompt_is_decoded_without_finer_levels_where_there_are_none():
    network = Network(given())
    call(network, mask_prompts()[1], seen=features(fine=False)).outputs(remember=True)
    assert network.decoded[0]["high_res_features"] is None


# A prediction


@pytest.mark.parametrize(("num_maskmem", "added"), [(7, 1000), (0, 0)])
def test_a_prompted_frame_reads_no_memory(num_maskmem, added, recomputes):
    network = Network(given(), num_maskmem=num_maskmem)
    output, entry = call(network, points()).outputs(remember=False)
    (inputs,), (decoded,) = network.prompted, network.decoded
    assert torch.equal(inputs["points"][0], torch.arange(16.0).reshape(4, 2, 2))
    assert inputs["points"][1].tolist() == [[1, 0]] * 4
    assert inputs["masks"] is None
    assert torch.equal(decoded["image_embeddings"], features().maps()[1] + added)
    assert torch.equal(decoded["high_res_features"][0], features().maps()[0])
    assert len(decoded["high_res_features"]) == 1
    assert decoded["multimask_output"] == "answer 1"
    (prompted, given_points) = network.asked[0]
    assert prompted is True
    assert given_points["point_labels"].shape == (4, 2)
    assert (output.predicted, entry) == (True, None)
    assert torch.equal(output.rows, ROWS)
    assert not network.encoded
    assert recomputes == [(False, "_with_memory"), (False, "decode")]


def test_a_prompted_frame_may_have_a_single_level_of_features():
    network = Network(given())
    call(network, points(), seen=features(fine=False)).outputs(remember=False)
    assert torch.equal(network.decoded[0]["image_embeddings"], features().maps()[1] + 1000)
    assert network.decoded[0]["high_res_features"] is None


@pytest.mark.parametrize("pad", [False, True])
def test_other_frames_read_what_the_bank_selects(monkeypatch, pad, recomputes):
    calls = []

    def read_memory(*inputs):
        calls.append(inputs)
        return "memory"

    def attend_memory(*inputs):
        calls.append(inputs)
        return features().levels[1] * 2

    monkeypatch.setattr(frame_call, "read_memory", read_memory)
    monkeypatch.setattr(frame_call, "attend_memory", attend_memory)
    network = Network(given())
    parts = ("memory_attention", "mask_decoder")
    one = call(network, attended="attended", seen=features(fine=False), pad_memory=pad, recompute=parts)
    one.bank.add(0, "prompted", True)
    one.bank.add(2, "earlier", False)
    one.outputs(remember=False)
    (read, attend) = calls
    assert (read[0], *read[2:]) == (network, FRAME, NUM_FRAMES, pad)
    assert (read[1].conditioning, read[1].others) == ({0: "prompted"}, {2: "earlier"})
    assert (attend[0], attend[1], attend[3]) == (network, "attended", "memory")
    assert torch.equal(attend[2], torch.zeros(4, 1, 2))
    assert torch.equal(network.decoded[0]["image_embeddings"], features().maps()[1] * 2)
    assert network.decoded[0]["high_res_features"] is None
    assert network.asked == [(False, None)]
    assert network.prompted[0]["points"][1].tolist() == [[-1]] * 4
    assert recomputes == [(True, "_with_memory"), (True, "decode")]


def test_prompts_that_mend_a_tracked_frame_read_memory_and_its_mask(monkeypatch):
    """They count as tracking where SAM 2 asks how many masks to predict, and as prompts in memory."""
    monkeypatch.setattr(frame_call, "read_memory", lambda *inputs: "memory")
    monkeypatch.setattr(frame_call, "attend_memory", lambda *inputs: features().levels[1] * 2)
    network, before = Network(given()), torch.arange(64.0).reshape(4, 1, 4, 4)
    output, _ = call(network, points(), attended="attended", before=before).outputs(remember=True)
    (inputs,), (decoded,), ((prompted, asked),) = network.prompted, network.decoded, network.asked
    assert torch.equal(inputs["masks"], before)
    assert inputs["points"][1].tolist() == [[1, 0]] * 4
    assert torch.equal(decoded["image_embeddings"], features().maps()[1] * 2)
    assert prompted is False
    assert asked["point_labels"].shape == (4, 2)
    assert network.encoded[0][4] is True
    assert output.predicted


@pytest.mark.parametrize("gate_outputs", [False, True])
@pytest.mark.parametrize("gate_steps", [False, True])
@pytest.mark.parametrize("scored", [False, True])
def test_what_is_scored_absent_is_blanked_where_the_rules_say(gate_outputs, gate_steps, scored):
    network = Network(given(), pred_obj_scores=scored)
    # The truth decides what goes into memory, not what is returned.
    one = call(network, points(), truth(), gate_outputs=gate_outputs, gate_steps=gate_steps)
    output, _ = one.outputs(remember=False)
    masks = given()[0]
    best, full = masks[:, 1], upsampled(masks[:, 1:2])[:, 0]
    hides = gate_outputs and scored
    assert torch.equal(output.masks, blanked(best, PRESENT) if hides else best)
    assert torch.equal(output.masks_high_res, blanked(full, PRESENT) if hides else full)
    assert torch.equal(output.ious, torch.full((4,), 0.9))
    assert torch.equal(output.object_score_logits, SCORES[:, 0])
    (step,) = output.steps
    assert torch.equal(step.multimasks, blanked(masks, PRESENT) if gate_steps and scored else masks)
    assert step.index.tolist() == [[4, 3, 4], [1, 3, 1], [0, 3, 0], [2, 3, 2]]
    assert torch.equal(step.ious, given()[1])
    assert torch.equal(step.object_score_logits, SCORES)


@pytest.mark.parametrize("prompts", [None, points()])
@pytest.mark.parametrize(
    ("known", "present"),
    [
        (None, PRESENT),
        (truth(decides=False), PRESENT),
        (truth(), [False, True, False, True]),  # where known, the truth; else the score
    ],
)
def test_presence_in_memory_is_the_truths_where_it_decides_and_is_known(prompts, known, present):
    network = Network(given())
    output, entry = call(network, prompts, known).outputs(remember=True)
    (_, _, high_res, scores, from_points) = network.encoded[0]
    assert torch.equal(high_res, blanked(upsampled(given()[0][:, 1:2]), present))
    assert scores[:, 0].tolist() == [1 if each else -1 for each in present]
    assert from_points is (prompts is not None)
    absent = torch.tensor([0 if each else NO_OBJECT for each in present])
    assert torch.equal(entry.pointer[:, 0], TOKENS + absent)
    assert torch.equal(output.masks, blanked(given()[0][:, 1], PRESENT))


@pytest.mark.parametrize("decides", [False, True])
def test_a_given_presence_is_not_softened(decides):
    _, entry = call(Network(given(), soft_no_obj_ptr=True), None, truth(decides)).outputs(remember=True)
    absent = torch.tensor([1.0, 0, 1, 0]) if decides else 1 - HALF
    torch.testing.assert_close(entry.pointer[:, 0], TOKENS + NO_OBJECT * absent)


def test_a_network_without_scores_remembers_masks_as_they_are():
    network = Network(given(), pred_obj_scores=False)
    _, entry = call(network, points()).outputs(remember=True)
    assert torch.equal(network.encoded[0][2], upsampled(given()[0][:, 1:2]))
    assert torch.equal(entry.pointer[:, 0], TOKENS)


# As SAM 2's video predictor does


@pytest.fixture
def marked(monkeypatch):
    """Filled holes add 0.5 to logits, stored features are doubled."""
    monkeypatch.setattr(frame_call, "fill_holes", lambda masks: masks + 0.5)
    monkeypatch.setattr(frame_call, "as_stored", lambda features: features * 2)


@pytest.mark.parametrize("as_stock", [False, True])
def test_the_predictor_remembers_a_mask_prompt_as_it_shows_it(marked, as_stock):
    masks, prompts = mask_prompts()
    network = Network(given())
    output, entry = call(network, prompts, as_stock=as_stock).outputs(remember=True)
    (_, _, remembered, _, from_points) = network.encoded[0]
    high = masks[:, None] * 20.0 - 10
    assert torch.equal(output.masks_high_res, high[:, 0])
    assert torch.equal(remembered, upsampled(output.masks[:, None]) if as_stock else high)
    assert from_points is as_stock
    assert entry.tokens[:, 2, 1].tolist() == ([56, 58, 60, 62] if as_stock else [28, 29, 30, 31])


@pytest.mark.parametrize("as_stock", [False, True])
@pytest.mark.parametrize("prompts", [None, points()])
def test_the_predictor_shows_filled_holes_and_remembers_them_on_prompted_frames(marked, as_stock, prompts):
    network = Network(given(), pred_obj_scores=False)
    output, entry = call(network, prompts, as_stock=as_stock).outputs(remember=True)
    best = given()[0][:, 1:2]
    filled = best + 0.5 if as_stock else best
    remembered = upsampled(best if prompts is None else filled)
    assert torch.equal(output.masks, filled[:, 0])
    assert torch.equal(output.masks_high_res, remembered[:, 0])
    assert torch.equal(network.encoded[0][2], remembered)
    assert entry.tokens[:, 2, 1].tolist() == ([56, 58, 60, 62] if as_stock else [28, 29, 30, 31])


# Clicks that correct a prediction


def sampler(calls):
    def click(masks, seen):
        calls.append((masks, seen))
        place = torch.full((4, 1, 2), 50.0 + len(calls))
        return place, torch.full((4, 1), len(calls) % 2, dtype=torch.int32)

    return click


@pytest.mark.parametrize("scored", [True, False])
def test_clicks_are_added_to_those_before_and_decoded_with_the_mask_before(scored, recomputes):
    calls, answers = [], [given(first, masks_each=3 if first == 0 else 1) for first in (0, 0.25, 0.5)]
    network = Network(*answers, pred_obj_scores=scored)
    one = call(
        network,
        points(),
        truth(),
        corrected=True,
        num_clicks=2,
        click_sampler=sampler(calls),
        recompute=("mask_decoder",),
    )
    output, _ = one.outputs(remember=True)
    best = [answers[0][0][:, 1:2], answers[1][0], answers[2][0]]
    # The network's own scores, but where the truth is known: as memory will have it.
    shown = [blanked(each, [False, True, False, True]) if scored else each for each in best]
    for number, (masks, seen) in enumerate(calls):
        assert [int(each.sum()) for each in masks[:, 0]] == [16, 32, 48, 64]
        assert masks.shape == (4, 1, SIDE, SIDE)
        assert seen.dtype == torch.bool
        assert torch.equal(seen, upsampled(shown[number]) > 0)
        assert torch.equal(network.prompted[number + 1]["masks"], shown[number])
    assert [each["points"][1][0].tolist() for each in network.prompted] == [[1, 0], [1, 0, 1], [1, 0, 1, 0]]
    assert network.prompted[2]["points"][0][3].tolist() == [[12, 13], [14, 15], [51, 51], [52, 52]]
    assert [each["multimask_output"] for each in network.decoded] == ["answer 1", "answer 2", "answer 3"]
    asked = [(prompted, len(points["point_labels"][0])) for prompted, points in network.asked]
    assert asked == [(True, 2), (True, 3), (True, 4)]
    for decoded in network.decoded:
        assert torch.equal(decoded["image_embeddings"], features().maps()[1] + 1000)
        assert torch.equal(decoded["high_res_features"][0], features().maps()[0])
    assert [torch.equal(step.ious, answer[1]) for step, answer in zip(output.steps, answers)] == [True] * 3
    assert torch.equal(output.masks, blanked(best[2][:, 0], PRESENT) if scored else best[2][:, 0])
    remembered = blanked(upsampled(best[2]), [False, True, False, True]) if scored else upsampled(best[2])
    assert torch.equal(network.encoded[0][2], remembered)
    assert [each for each in recomputes if each[1] == "decode"] == [(True, "decode")] * 3


def test_a_logit_of_zero_is_not_of_the_object_that_a_click_corrects():
    masks, *others = given()
    calls, network = [], Network((torch.zeros_like(masks), *others), given())
    rules = {"num_clicks": 1, "click_sampler": sampler(calls)}
    call(network, points(), truth(), corrected=True, **rules).outputs(remember=False)
    assert not calls[0][1].any()


def test_only_frames_that_are_corrected_are_clicked():
    calls, network = [], Network(given())
    one = call(network, points(), truth(), num_clicks=2, click_sampler=sampler(calls))
    output, _ = one.outputs(remember=False)
    assert (calls, len(output.steps)) == ([], 1)


@pytest.mark.parametrize(
    ("share", "drawn", "blind"), [(0.0, 0.0, False), (0.3, 0.2, True), (0.3, 0.4, False)]
)
def test_a_share_of_the_clicks_does_not_see_the_prediction(monkeypatch, share, drawn, blind):
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.full(shape[0], drawn))
    calls, network = [], Network(given(), given())
    rules = {"num_clicks": 1, "click_sampler": sampler(calls), "click_from_gt": share}
    call(network, points(), truth(), corrected=True, **rules).outputs(remember=False)
    assert (calls[0][1] is None) is blind
