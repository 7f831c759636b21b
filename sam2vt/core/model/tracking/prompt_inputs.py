"""Turn prompts into SAM 2's inputs: objects of all clips packed along one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sam2vt.core.types import Prompt
from sam2vt.errors import DataError
from sam2vt.settings import PROMPT_ALIASES, PROMPT_KINDS

PromptLists = Sequence[Sequence[Prompt]]
_DTYPES = {"point_coords": torch.float32, "point_labels": torch.int32, "mask": torch.bool}


class PackedObject(NamedTuple):
    """One real object of the batch and the frames on which it is prompted."""

    clip: int  # which of the B clips
    slot: int  # which of the clip's N object slots
    prompts: dict[int, Prompt]  # by frame of the clip

    @property
    def conditioning_frames(self) -> tuple[int, ...]:
        """The frames on which it is prompted, in order."""
        return tuple(sorted(self.prompts))


class PromptKind(NamedTuple):
    """Properties that prompts in one call must share, because SAM 2 decides them once per call."""

    is_mask: bool
    num_points: int


def pack_objects(prompts: PromptLists, num_frames: int, size: int) -> list[PackedObject]:
    """Return the prompted objects of all clips, ordered by (clip, slot).

    `prompts` has one list per clip; `num_frames` is T and `size` H = W. Raises DataError for a prompt that
    cannot be used; it names the clip and the object.
    """
    packed: dict[tuple[int, int], dict[int, Prompt]] = {}
    for clip, clip_prompts in enumerate(prompts):
        for place, prompt in enumerate(clip_prompts):
            if not isinstance(prompt, Mapping):
                raise DataError(
                    f"prompt {place} of clip {clip} is a {type(prompt).__name__}; allowed is a dict with type"
                )
            slot = int(prompt.get("object_index", place))
            frame = int(prompt.get("frame_index", 0))
            where = f"prompt {place} of clip {clip} (object {slot}, frame {frame})"
            prompt = _as_tensors(prompt, where)
            _check_prompt(prompt, slot, frame, num_frames, size, where)
            frames = packed.setdefault((clip, slot), {})
            if frame in frames:
                raise DataError(
                    f"{where}: this object already has a prompt on this frame; give one per frame"
                )
            frames[frame] = prompt
    return [PackedObject(clip, slot, packed[clip, slot]) for clip, slot in sorted(packed)]


def nest_prompts(prompts: Any, num_clips: int) -> PromptLists:
    """Return lists as they are; a flat list of prompts as the list of the only clip. Raises DataError."""
    if prompts and isinstance(prompts[0], dict):
        if num_clips != 1:
            raise DataError(f"prompts: a flat list serves one clip only, got {num_clips} clips; nest it")
        prompts = [prompts]
    if len(prompts) != num_clips:
        raise DataError(f"prompts: got lists for {len(prompts)} clips, the images hold {num_clips}")
    return prompts


def prompts_from_masks(masks: Tensor, valid_masks: Tensor | None) -> list[list[Prompt]]:
    """Return each object's mask on its first frame that is visible and valid, as mask prompts.

    masks: bool [B, T, N, H, W]; valid_masks: bool [B, T, N]. Slots without one, as padding, get none.
    """
    visible = masks.flatten(3).any(3)
    visible = (visible if valid_masks is None else visible & valid_masks.bool()).cpu()
    prompts: list[list[Prompt]] = [[] for _ in masks]
    for b, n in visible.any(1).nonzero().tolist():
        t = int(visible[b, :, n].int().argmax())
        prompts[b].append(Prompt(type="mask", mask=masks[b, t, n].bool(), object_index=n, frame_index=t))
    return prompts


def predicted_entries(prompts: PromptLists, shape: Sequence[int]) -> Tensor:
    """Return the entries, bool [B, T, N] of `shape`, that the model will predict.

    They begin with an object's first prompt, without frames whose mask is given by a prompt.
    """
    predicted = torch.zeros(tuple(shape), dtype=torch.bool)
    for clip, given in enumerate(prompts):
        placed = [(p.get("object_index", n), p.get("frame_index", 0), p["type"]) for n, p in enumerate(given)]
        for slot in {slot for slot, *_ in placed}:
            predicted[clip, min(frame for each, frame, _ in placed if each == slot) :, slot] = True
        for slot, frame, kind in placed:
            predicted[clip, frame, slot] &= kind != "mask"
    return predicted


def prompt_kind(prompt: Prompt) -> PromptKind:
    """Return the properties that prompts of one call share; a box is two points."""
    if prompt["type"] == "mask":
        return PromptKind(True, 0)
    return PromptKind(False, int(prompt["point_labels"].shape[0]))


def mask_inputs(prompts: Sequence[Prompt], device: torch.device) -> Tensor:
    """Return float32 [K, 1, H, W] of K mask prompts."""
    return torch.stack([prompt["mask"] for prompt in prompts]).unsqueeze(1).to(device, torch.float32)


def point_inputs(prompts: Sequence[Prompt], device: torch.device) -> dict[str, Tensor]:
    """Return SAM 2's point inputs, float32 [K, P, 2] and int32 [K, P], of K prompts with P points each."""
    coords = torch.stack([prompt["point_coords"] for prompt in prompts])
    labels = torch.stack([prompt["point_labels"] for prompt in prompts])
    return {"point_coords": coords.to(device, torch.float32), "point_labels": labels.to(device, torch.int32)}


def _as_tensors(prompt: Prompt, where: str) -> Prompt:
    """Return a prompt whose lists and arrays are tensors of the types that `Prompt` names."""
    given: dict[str, Any] = dict(prompt)
    for name, dtype in _DTYPES.items():
        if name in given and not isinstance(given[name], Tensor):
            try:
                given[name] = torch.as_tensor(given[name], dtype=dtype)
            except (TypeError, ValueError, RuntimeError) as error:
                raise DataError(f"{where}: '{name}' is no array of numbers: {error}") from error
    return cast(Prompt, given)


def _check_prompt(prompt: Prompt, slot: int, frame: int, num_frames: int, size: int, where: str) -> None:
    kind = PROMPT_ALIASES.get(str(prompt.get("type")), prompt.get("type"))
    if kind not in PROMPT_KINDS:
        raise DataError(f"{where}: type {prompt.get('type')!r}; allowed are {', '.join(PROMPT_KINDS)}")
    if slot < 0:
        raise DataError(f"{where}: object_index must be 0 or more")
    if not 0 <= frame < num_frames:
        raise DataError(f"{where}: frame_index is outside the clip's 0 to {num_frames - 1}")
    if kind == "mask":
        shape = tuple(cast(Tensor, prompt["mask"]).shape) if "mask" in prompt else None
        if shape != (size, size):
            raise DataError(f"{where}: 'mask' has shape {shape}; the model's input is {(size, size)}")
        return
    coords, labels = prompt.get("point_coords"), prompt.get("point_labels")
    if coords is None or labels is None or coords.ndim != 2 or coords.shape[-1] != 2:
        raise DataError(f"{where}: needs 'point_coords' [P, 2] as (x, y) and 'point_labels' [P]")
    if labels.shape != coords.shape[:1] or labels.shape[0] == 0:
        raise DataError(f"{where}: {tuple(labels.shape)} labels for {tuple(coords.shape)} points")
    if labels.device.type == "cpu":  # reading the values elsewhere would wait for the device
        if not ((labels >= 0) & (labels <= 3)).all():
            raise DataError(
                f"{where}: point_labels {labels.tolist()}; allowed are 1 positive, 0 negative, 2 and 3 the "
                f"corners of a box"
            )
        if not ((coords >= 0) & (coords <= size)).all():
            raise DataError(
                f"{where}: point_coords {coords.tolist()}; must be within the model's {size} x {size} pixels"
            )
