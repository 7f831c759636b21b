"""Collate clips to a batch: the only place that checks shapes and dtypes of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from sam2vt.core.types import Batch, Clip
from sam2vt.errors import DataError
from sam2vt.settings import PROMPT_KINDS

# Field -> its dtypes and shape. A letter is a size that all fields of a clip share; "*" is any size.
_Spec = tuple[tuple[torch.dtype, ...], str]
_IMAGES: _Spec = ((torch.uint8, torch.float32), "T 3 H W")  # float: normalised by a transform of the user
_FEATURES: _Spec = ((torch.bfloat16,), "T * * *")
_MASKS: dict[str, _Spec] = {"masks": ((torch.bool,), "T N H W"), "valid_masks": ((torch.bool,), "T N")}
_LISTS = ("prompts", "video_id", "frame_indices", "object_ids", "original_size", "num_objects")
_PROMPT: dict[str, _Spec] = {
    "point_coords": ((torch.float32,), "P 2"),
    "point_labels": ((torch.int32,), "P"),
    "mask": ((torch.bool,), "H W"),
}


def collate_fn(batch: Sequence[Clip]) -> Batch:
    """Stack clips; object slots are padded to the largest number in a clip, with empty, invalid masks.

    Fields without a shape (prompts, ids, sizes) become lists over B. Raises DataError naming video and field
    if a clip does not match `Clip`, and if clips differ in length or size.
    """
    for clip in batch:
        _check(clip)
    shapes = {_shape(clip) for clip in batch}
    if len(shapes) != 1:
        found = ", ".join(f"{clip['video_id']} {list(_shape(clip))}" for clip in batch)
        raise DataError(f"clips of one batch must have one shape [T, 3, H, W], got: {found or 'no clip'}")
    num_slots = max(clip["masks"].shape[1] for clip in batch)
    clips: list[dict[str, Any]] = [dict(clip) for clip in batch]
    collated: dict[str, Any] = {
        name: torch.stack([_pad_slots(clip[name], num_slots) for clip in clips]) for name in _MASKS
    }
    collated |= {name: [clip[name] for clip in clips] for name in _LISTS}
    if "features" in clips[0]:
        collated["features"] = [torch.stack(level) for level in zip(*(clip["features"] for clip in clips))]
    else:
        collated["images"] = torch.stack([clip["images"] for clip in clips])
    quarantined = [clip["quarantined"] for clip in clips if "quarantined" in clip]
    return cast(Batch, {**collated, "quarantined": quarantined} if quarantined else collated)


def _check(clip: Clip) -> None:
    """Raise DataError if a field's shape or dtype is not what `Clip` says. Reads no tensor's values."""
    fields, sizes = dict(clip), dict[str, int]()
    where = f"video {fields.get('video_id')}"
    if "features" in clip:
        for level, tensor in enumerate(clip["features"]):
            _check_tensor(tensor, _FEATURES, sizes, f"{where}: features[{level}]")
    else:
        _check_tensor(fields.get("images"), _IMAGES, sizes, f"{where}: images")
    for name, spec in _MASKS.items():
        _check_tensor(fields.get(name), spec, sizes, f"{where}: {name}")
    for name, letter in {"frame_indices": "T", "object_ids": "N"}.items():
        got = fields.get(name)
        if not isinstance(got, (list, tuple)) or len(got) != sizes[letter]:
            allowed = f"a list of {letter} = {sizes[letter]}"
            raise DataError(f"{where}: {name} is {str(got)[:60]}; allowed is {allowed}")
    if fields.get("num_objects") != sizes["N"]:
        raise DataError(f"{where}: num_objects is {fields.get('num_objects')}; allowed is N = {sizes['N']}")
    for place, prompt in enumerate(clip["prompts"]):
        _check_prompt(prompt, sizes, f"{where}: prompts[{place}]")


def _check_prompt(prompt: Mapping[str, Any], sizes: dict[str, int], where: str) -> None:
    if prompt.get("type") not in PROMPT_KINDS:
        raise DataError(f"{where}: type is {prompt.get('type')!r}; allowed are {', '.join(PROMPT_KINDS)}")
    for name, letter in {"object_index": "N", "frame_index": "T"}.items():
        if name in prompt and not 0 <= prompt[name] < sizes[letter]:
            raise DataError(f"{where}: {name} is {prompt[name]}; allowed are 0 to {sizes[letter] - 1}")
    own = dict(sizes)  # prompts may have different numbers of points
    for name in ("mask",) if prompt["type"] == "mask" else ("point_coords", "point_labels"):
        _check_tensor(prompt.get(name), _PROMPT[name], own, f"{where}: {name}")


def _check_tensor(value: Any, spec: _Spec, sizes: dict[str, int], where: str) -> None:
    """Hold a tensor to its dtypes and shape; sizes that are not known yet are taken from it."""
    dtypes, letters = spec[0], spec[1].split()
    wanted = [int(each) if each.isdigit() else sizes.get(each) for each in letters]
    is_tensor = isinstance(value, torch.Tensor)
    fits = is_tensor and value.dtype in dtypes and value.ndim == len(wanted)
    if not fits or any(size not in (None, got) for size, got in zip(wanted, value.shape)):
        got = f"{value.dtype} {list(value.shape)}" if is_tensor else type(value).__name__
        shape = ", ".join(letter if size is None else str(size) for size, letter in zip(wanted, letters))
        raise DataError(f"{where} is {got}; allowed is {' or '.join(map(str, dtypes))} [{shape}]")
    sizes.update({letter: got for letter, got in zip(letters, value.shape) if letter.isalpha()})


def _shape(clip: Clip) -> tuple[int, ...]:
    """Return the shape of its images, or of its finest features."""
    return tuple((clip["features"][0] if "features" in clip else clip["images"]).shape)


def _pad_slots(tensor: torch.Tensor, num_slots: int) -> torch.Tensor:
    """Pad [T, N, ...] to [T, num_slots, ...] with False."""
    padded = tensor.new_zeros((tensor.shape[0], num_slots, *tensor.shape[2:]))
    padded[:, : tensor.shape[1]] = tensor
    return padded
