"""Call SAM 2's modules on a frame, for objects that agree on everything decided once per call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.model.execution import recomputed
from sam2vt.core.model.tracking import heads
from sam2vt.core.model.tracking.features import FrameFeatures, as_map
from sam2vt.core.model.tracking.heads import Decoded, DecoderStep
from sam2vt.core.model.tracking.memory import Entry, MemoryBank, Selection
from sam2vt.core.model.tracking.memory_attention import attend_memory, read_memory
from sam2vt.core.model.tracking.postprocessing import as_stored, fill_holes
from sam2vt.core.model.tracking.prompt_inputs import mask_inputs, point_inputs, prompt_kind
from sam2vt.core.types import Prompt

# (masks bool [K,1,H,W], predictions bool [K,1,H,W] or None) -> (coords [K,1,2], labels int32 [K,1])
ClickSampler = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TrackingRules:
    """How predictions, presence and clicks are treated."""

    gate_outputs: bool = True  # blank the masks of absent objects in what is returned
    gate_steps: bool = True  # and in what the loss sees
    num_clicks: int = 0
    click_from_gt: float = 0.0
    bptt_frames: int | None = None
    click_sampler: ClickSampler | None = None
    pad_memory: bool = False  # to one shape for all frames
    as_stock: bool = False  # masks and memory as SAM 2's video predictor has them
    recompute: tuple[str, ...] = ()  # parts of the network that the backward pass recomputes


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of the packed objects."""

    masks: Tensor  # bool [T, O, H, W]
    known: Tensor  # bool [T, O]
    present: Tensor  # bool [T, O]
    known_on_host: list[list[bool]]  # `known`, so that grouping needs no synchronisation
    decides_presence: bool  # where known, it goes into memory instead of the model's own score


@dataclass(frozen=True)
class TrackingRun:
    """Data shared by all frames of a batch of clips, or of a video."""

    network: Any
    num_frames: int
    rules: TrackingRules = TrackingRules()
    truth: GroundTruth | None = None

    def recomputes(self, part: str) -> bool:
        """Return whether the backward pass recomputes this part of the network."""
        return part in self.rules.recompute


class FrameOutput(NamedTuple):
    """The output of a frame for K objects of a cohort; `rows` are their places among the packed objects."""

    rows: Tensor  # long [K]
    masks: Tensor  # [K, h, w] logits
    masks_high_res: Tensor  # [K, H, W] logits
    ious: Tensor  # [K]
    object_score_logits: Tensor  # [K]
    predicted: bool  # false where the output is the prompt itself
    steps: list[DecoderStep]  # their index column holds rows until the batch is assembled


@dataclass
class FrameCall:
    """K objects of a cohort on one frame, equal in everything that SAM 2 decides once per call."""

    run: TrackingRun
    frame: int
    rows: Tensor  # long [K], places among the packed objects
    features: FrameFeatures  # of K images, one per object
    attended: Tensor | None  # [L, K, C] from `attend_frames`; None: does not read memory
    prompts: list[Prompt] | None  # K prompts of one kind; None: not prompted on this frame
    corrected: bool
    bank: MemoryBank
    previous: Tensor | None = None  # [K, 1, h, w] logits of this frame that the prompts mend

    def outputs(self, remember: bool) -> tuple[FrameOutput, Entry | None]:
        """Return the frame's output and, with `remember`, its entry in memory."""
        if self.prompts is not None and prompt_kind(self.prompts[0]).is_mask:
            return self._mask_as_output(self.prompts, remember)
        return self._predict(remember)

    def _mask_as_output(self, prompts: list[Prompt], remember: bool) -> tuple[FrameOutput, Entry | None]:
        """Return a mask prompt as the output of its frame; only the object pointer is decoded from it."""
        network, maps = self.run.network, self.features.maps()
        masks = mask_inputs(prompts, self.rows.device)
        high_res = masks * 20.0 - 10.0  # logits, as SAM 2 writes them for certain masks
        low_res = F.interpolate(
            high_res,
            size=(high_res.shape[-2] // 4, high_res.shape[-1] // 4),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        # SAM2Train remembers the mask as given, the predictor as it shows it.
        remembered = heads.upsample(low_res, network.image_size) if self.run.rules.as_stock else high_res
        visible = masks.flatten(1).any(dim=1, keepdim=True)
        score = visible.float() * 20.0 - 10.0
        entry = None
        if remember:
            pointer = None
            if network.use_obj_ptrs_in_encoder:
                dense = network.mask_downsample(masks)
                decoded = heads.decode(network, maps[-1], maps[:-1] or None, None, dense, False)
                own = decoded.object_score_logits > 0
                pointer = self._pointer(decoded, visible if self._presence_is_given else own)
                if network.pred_obj_scores:
                    pointer = heads.mix_no_object(network, pointer, visible.float())
            entry = self._memory_entry(remembered, pointer, visible, self.run.rules.as_stock)
        ones = torch.ones(len(prompts), device=self.rows.device)
        output = FrameOutput(self.rows, low_res[:, 0], high_res[:, 0], ones, score[:, 0], False, [])
        return output, entry

    def _predict(self, remember: bool) -> tuple[FrameOutput, Entry | None]:
        network, rules = self.run.network, self.run.rules
        prompted = self.prompts is not None
        points = point_inputs(self.prompts, self.rows.device) if self.prompts is not None else None
        selection = self.bank.select(self.frame, network.max_cond_frames_in_attn)
        with_memory = recomputed(self.run.recomputes("memory_attention"), self._with_memory, selection)
        pixels = as_map(with_memory, self.features.sizes[-1])
        fine = self.features.maps()[:-1] or None
        # What mends a tracked frame reads memory, and counts as tracking.
        multimask = network._use_multimask(prompted and self.attended is None, points)
        decoded = self._decode(pixels, fine, points, self.previous, multimask)
        steps = [self._step(decoded)]
        for _ in range(rules.num_clicks if self.corrected else 0):
            decoded, points = self._correct(decoded, points, pixels, fine)
            steps.append(self._step(decoded))
        shown = fill_holes(decoded.masks) if rules.as_stock else decoded.masks
        if prompted:  # the memory of other frames keeps its holes
            decoded = decoded._replace(masks=shown)
        present = self._present(decoded.object_score_logits)
        high_res = heads.upsample(decoded.masks, network.image_size)
        visible = decoded.object_score_logits > 0
        gated = rules.gate_outputs and network.pred_obj_scores
        output = FrameOutput(
            self.rows,
            (heads.gate(shown, visible) if gated else shown)[:, 0],
            (heads.gate(high_res, visible) if gated else high_res)[:, 0],
            decoded.iou,
            decoded.object_score_logits[:, 0],
            True,
            steps,
        )
        return output, self._remembered(decoded, high_res, present, prompted) if remember else None

    def _with_memory(self, selection: Selection) -> Tensor:
        """Return the coarsest features [L, K, C] after the memory attention; prompted frames skip it."""
        network, features = self.run.network, self.features
        if self.attended is None:
            plain = features.levels[-1]
            return plain + network.no_mem_embed if network.num_maskmem else plain
        num_frames, pad = self.run.num_frames, self.run.rules.pad_memory
        memory = read_memory(network, selection, self.frame, num_frames, pad)
        return attend_memory(network, self.attended, features.positions, memory)

    def _remembered(self, decoded: Decoded, high_res: Tensor, present: Tensor, from_points: bool) -> Entry:
        network = self.run.network
        pointer = self._pointer(decoded, present) if network.use_obj_ptrs_in_encoder else None
        if network.pred_obj_scores:
            high_res = heads.gate(high_res, present)
        return self._memory_entry(high_res, pointer, present, from_points)

    def _pointer(self, decoded: Decoded, present: Tensor) -> Tensor:
        # A presence from the ground truth is certain: there is no score to soften it by.
        soft = None if self._presence_is_given else decoded.object_score_logits
        return heads.object_pointer(self.run.network, decoded.token, present, soft)

    def _correct(
        self, decoded: Decoded, points: dict[str, Tensor] | None, pixels: Tensor, fine: list[Tensor] | None
    ) -> tuple[Decoded, dict[str, Tensor]]:
        """Add a click where the prediction is wrong; return the decoder's answer to all clicks, and these."""
        network, rules, truth = self.run.network, self.run.rules, self.run.truth
        assert truth is not None
        assert rules.click_sampler is not None
        assert points is not None
        masks = decoded.masks
        if network.pred_obj_scores:
            masks = heads.gate(masks, self._present(decoded.object_score_logits))
        from_gt = torch.rand(()).item() < rules.click_from_gt
        seen = None if from_gt else heads.upsample(masks, network.image_size) > 0
        target = truth.masks[self.frame, self.rows].unsqueeze(1)
        coords, labels = rules.click_sampler(target, seen)
        points = {
            "point_coords": torch.cat([points["point_coords"], coords], dim=1),
            "point_labels": torch.cat([points["point_labels"], labels], dim=1),
        }
        multimask = network._use_multimask(True, points)
        return self._decode(pixels, fine, points, masks, multimask), points

    def _decode(self, *inputs: Any) -> Decoded:
        return recomputed(self.run.recomputes("mask_decoder"), heads.decode, self.run.network, *inputs)

    @property
    def _presence_is_given(self) -> bool:
        return self.run.truth is not None and self.run.truth.decides_presence

    def _present(self, score: Tensor) -> Tensor:
        """Return the presence [K, 1] for what goes into memory: the ground truth's where it is known."""
        present, truth = score > 0, self.run.truth
        if truth is None or not truth.decides_presence:
            return present
        known = truth.known[self.frame, self.rows].unsqueeze(1)
        there = truth.present[self.frame, self.rows].unsqueeze(1)
        return torch.where(known, there, present)

    def _step(self, decoded: Decoded) -> DecoderStep:
        masks = decoded.multimasks
        if self.run.rules.gate_steps and self.run.network.pred_obj_scores:
            masks = heads.gate(masks, decoded.object_score_logits > 0)
        frames = torch.full_like(self.rows, self.frame)
        index = torch.stack([self.rows, frames, self.rows], dim=1)
        return DecoderStep(index, masks, decoded.ious, decoded.object_score_logits)

    def _memory_entry(
        self, high_res: Tensor, pointer: Tensor | None, present: Tensor, from_points: bool
    ) -> Entry:
        features, positions = recomputed(
            self.run.recomputes("memory_encoder"),
            self.run.network._encode_new_memory,
            self.features.levels,
            self.features.sizes,
            high_res,
            torch.where(present, 1.0, -1.0),
            from_points,
        )
        if self.run.rules.as_stock:
            features = as_stored(features)
        return Entry(
            features.flatten(2).permute(2, 0, 1), positions[-1][:1].flatten(2).permute(2, 0, 1), pointer
        )
