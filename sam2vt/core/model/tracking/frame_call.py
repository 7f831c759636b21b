"""One call of SAM 2's modules on a frame: objects that agree on everything it decides once a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.model.recompute import again
from sam2vt.core.model.tracking import heads
from sam2vt.core.model.tracking.features import FrameFeatures, as_map
from sam2vt.core.model.tracking.heads import Decoded, DecoderStep
from sam2vt.core.model.tracking.memory import Entry, MemoryBank, Selection
from sam2vt.core.model.tracking.memory_attention import attend_memory, read_memory
from sam2vt.core.model.tracking.prompt_inputs import mask_inputs, point_inputs, prompt_kind
from sam2vt.core.types import Prompt

# (masks bool [K,1,H,W], predictions bool [K,1,H,W] or None) -> (coords [K,1,2], labels int32 [K,1])
ClickSampler = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TrackingRules:
    """How predictions, presence and clicks are treated."""

    gate_outputs: bool = True  # absent objects' masks are blanked in what is returned
    gate_steps: bool = True  # and in what the loss sees
    num_clicks: int = 0
    click_from_gt: float = 0.0
    bptt_frames: int | None = None
    click_sampler: ClickSampler | None = None
    pad_memory: bool = False  # to one shape for all frames
    recompute: tuple[str, ...] = ()  # parts of the network that are computed again in backward


@dataclass(frozen=True)
class GroundTruth:
    """What is known of the packed objects."""

    masks: Tensor  # bool [T, O, H, W]
    known: Tensor  # bool [T, O]
    present: Tensor  # bool [T, O]
    known_on_host: list[list[bool]]  # `known`, so that grouping needs no synchronisation
    decides_presence: bool  # its presence, where known, goes into memory instead of the model's own


class FrameOutput(NamedTuple):
    """What a frame gives for K objects of a cohort; `rows` are their places among the packed objects."""

    rows: Tensor  # long [K]
    masks: Tensor  # [K, h, w] logits
    masks_high_res: Tensor  # [K, H, W] logits
    ious: Tensor  # [K]
    object_score_logits: Tensor  # [K]
    predicted: bool  # false where the output is the prompt itself
    steps: list[DecoderStep]  # their index column holds rows until the batch is assembled


@dataclass
class FrameCall:
    """K objects of a cohort on one frame, alike in all that SAM 2 decides once a call."""

    network: Any
    frame: int
    num_frames: int
    rows: Tensor  # long [K], places among the packed objects
    features: FrameFeatures  # of K images, one an object
    attended: Tensor | None  # [L, K, C] from `attend_frames`, where memory is looked at
    prompts: list[Prompt] | None  # K prompts of one kind; None: not prompted on this frame
    corrected: bool
    bank: MemoryBank
    rules: TrackingRules
    truth: GroundTruth | None

    def run(self, remember: bool) -> tuple[FrameOutput, Entry | None]:
        """The frame's output and, with `remember`, what it leaves in memory."""
        if self.prompts is not None and prompt_kind(self.prompts[0]).is_mask:
            return self._mask_as_output(self.prompts, remember)
        return self._predict(remember)

    def _mask_as_output(self, prompts: list[Prompt], remember: bool) -> tuple[FrameOutput, Entry | None]:
        """A mask prompt is the output of its frame; only the object pointer is decoded from it."""
        network, maps = self.network, self.features.maps()
        masks = mask_inputs(prompts, self.rows.device)
        high_res = masks * 20.0 - 10.0
        low_res = F.interpolate(
            high_res,
            size=(high_res.shape[-2] // 4, high_res.shape[-1] // 4),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        visible = masks.flatten(1).any(dim=1, keepdim=True)
        score = visible.float() * 20.0 - 10.0
        pointer = None
        if remember and network.use_obj_ptrs_in_encoder:
            decoded = decode_mask_prompt(network, maps, masks)
            inner = visible if self._presence_is_given else decoded.object_score_logits > 0
            soft = None if self._presence_is_given else decoded.object_score_logits
            pointer = heads.object_pointer(network, decoded.token, inner, soft)
            if network.pred_obj_scores:
                pointer = heads.mix_no_object(network, pointer, visible.float())
        entry = self._memory_entry(high_res, pointer, visible, False) if remember else None
        ones = torch.ones(len(prompts), device=self.rows.device)
        output = FrameOutput(self.rows, low_res[:, 0], high_res[:, 0], ones, score[:, 0], False, [])
        return output, entry

    def _predict(self, remember: bool) -> tuple[FrameOutput, Entry | None]:
        network, rules = self.network, self.rules
        prompted = self.prompts is not None
        points = point_inputs(self.prompts, self.rows.device) if self.prompts is not None else None
        selection = self.bank.select(self.frame, network.max_cond_frames_in_attn)
        remembering = again("memory_attention" in rules.recompute, self._with_memory, selection)
        pixels = as_map(remembering, self.features.sizes[-1])
        fine = self.features.maps()[:-1] or None
        decoded = self._decode(pixels, fine, points, None, network._use_multimask(prompted, points))
        steps = [self._step(decoded)]
        for _ in range(rules.num_clicks if self.corrected else 0):
            decoded, points = self._correct(decoded, points, pixels, fine)
            steps.append(self._step(decoded))
        present = self._present(decoded.object_score_logits)
        high_res = heads.upsample(decoded.masks, network.image_size)
        shown = decoded.object_score_logits > 0
        gated = rules.gate_outputs and network.pred_obj_scores
        output = FrameOutput(
            self.rows,
            (heads.gate(decoded.masks, shown) if gated else decoded.masks)[:, 0],
            (heads.gate(high_res, shown) if gated else high_res)[:, 0],
            decoded.iou,
            decoded.object_score_logits[:, 0],
            True,
            steps,
        )
        return output, self._remembered(decoded, high_res, present, prompted) if remember else None

    def _with_memory(self, selection: Selection) -> Tensor:
        """The coarsest features [L, K, C] after a look at what is remembered; nothing on a prompted frame."""
        network, features = self.network, self.features
        if self.attended is None:
            plain = features.levels[-1]
            return plain + network.no_mem_embed if network.num_maskmem else plain
        memory = read_memory(network, selection, self.frame, self.num_frames, self.rules.pad_memory)
        return attend_memory(network, self.attended, features.positions, memory)

    def _remembered(self, decoded: Decoded, high_res: Tensor, present: Tensor, from_points: bool) -> Entry:
        network = self.network
        pointer = None
        if network.use_obj_ptrs_in_encoder:
            soft = None if self._presence_is_given else decoded.object_score_logits
            pointer = heads.object_pointer(network, decoded.token, present, soft)
        if network.pred_obj_scores:
            high_res = heads.gate(high_res, present)
        return self._memory_entry(high_res, pointer, present, from_points)

    def _correct(
        self, decoded: Decoded, points: dict[str, Tensor] | None, pixels: Tensor, fine: list[Tensor] | None
    ) -> tuple[Decoded, dict[str, Tensor]]:
        """Another click where the prediction is wrong, and the decoder's answer to all clicks so far."""
        assert self.truth is not None
        assert self.rules.click_sampler is not None
        assert points is not None
        network = self.network
        masks = decoded.masks
        if network.pred_obj_scores:
            masks = heads.gate(masks, self._present(decoded.object_score_logits))
        from_gt = torch.rand(()).item() < self.rules.click_from_gt
        seen = None if from_gt else heads.upsample(masks, network.image_size) > 0
        target = self.truth.masks[self.frame, self.rows].unsqueeze(1)
        coords, labels = self.rules.click_sampler(target, seen)
        points = {
            "point_coords": torch.cat([points["point_coords"], coords], dim=1),
            "point_labels": torch.cat([points["point_labels"], labels], dim=1),
        }
        multimask = network._use_multimask(True, points)
        return self._decode(pixels, fine, points, masks, multimask), points

    def _decode(self, *inputs: Any) -> Decoded:
        return again("mask_decoder" in self.rules.recompute, heads.decode, self.network, *inputs)

    @property
    def _presence_is_given(self) -> bool:
        return self.truth is not None and self.truth.decides_presence

    def _present(self, score: Tensor) -> Tensor:
        """Presence [K, 1] for what goes into memory: the ground truth's where it is known."""
        present = score > 0
        if not self._presence_is_given:
            return present
        assert self.truth is not None
        known = self.truth.known[self.frame, self.rows].unsqueeze(1)
        there = self.truth.present[self.frame, self.rows].unsqueeze(1)
        return torch.where(known, there, present)

    def _step(self, decoded: Decoded) -> DecoderStep:
        masks = decoded.multimasks
        if self.rules.gate_steps and self.network.pred_obj_scores:
            masks = heads.gate(masks, decoded.object_score_logits > 0)
        frames = torch.full_like(self.rows, self.frame)
        index = torch.stack([self.rows, frames, self.rows], dim=1)
        return DecoderStep(index, masks, decoded.ious, decoded.object_score_logits)

    def _memory_entry(
        self, high_res: Tensor, pointer: Tensor | None, present: Tensor, from_points: bool
    ) -> Entry:
        features, positions = again(
            "memory_encoder" in self.rules.recompute,
            self.network._encode_new_memory,
            self.features.levels,
            self.features.sizes,
            high_res,
            torch.where(present, 1.0, -1.0),
            from_points,
        )
        return Entry(
            features.flatten(2).permute(2, 0, 1), positions[-1][:1].flatten(2).permute(2, 0, 1), pointer
        )


def decode_mask_prompt(network: Any, maps: list[Tensor], masks: Tensor) -> Decoded:
    """Decode float masks [K, 1, H, W] on the frame's own features, for the object pointer."""
    dense = network.mask_downsample(masks)
    return heads.decode(network, maps[-1], maps[:-1] or None, None, dense, False)
