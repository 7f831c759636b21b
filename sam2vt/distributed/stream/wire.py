"""Pack a clip into a row of Ray Data and unpack it: the wire format.

Images are a uint8 tensor, features the bits of bf16, masks packed bits, the rest JSON: typed columns that are
small (a three-object clip takes 0.85 of an image in float8) and need no unpickling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sam2vt.core.data.frames.feature_cache import as_bits, from_bits
from sam2vt.core.types import Clip, Prompt
from sam2vt.errors import CheckpointError, ConfigError, DataError, Sam2vtError, TrainingError

if TYPE_CHECKING:
    import torch

POSITION = "position"
_FEATURES = "features_"
_PROMPT_SCALARS = ("type", "object_index", "frame_index")
_ERRORS = {error.__name__: error for error in (ConfigError, DataError, CheckpointError)}


def pack_clips(clips: Sequence[Mapping[str, Any]], positions: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the rows of `clips` as columns; `positions` are the places of the clips in the stream.

    `images` is uint8 [rows,T,3,H,W]; with a feature cache `features_<level>` replaces it, the bits of bf16
    [rows,T,C,h,w]. `masks`, `prompt_masks` and `meta` are bytes.
    """
    return {
        POSITION: np.asarray(positions, dtype=np.int64),
        **_pack_pixels(clips),
        "masks": _bytes_column([_pack_bits(np.asarray(clip["masks"])) for clip in clips]),
        "prompt_masks": _bytes_column([_pack_prompt_masks(clip["prompts"]) for clip in clips]),
        "meta": _bytes_column([_pack_meta(clip) for clip in clips]),
    }


def pack_error(
    error: Sam2vtError, positions: Sequence[int], blank: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return rows that raise `error` where they are unpacked, with the columns of clips like `blank`.

    Ray itself would only keep the text of an exception in an actor.
    """
    meta = json.dumps({"error": type(error).__name__, "message": str(error)}).encode()
    rows = pack_clips([blank] * len(positions), positions)
    return {**rows, "meta": _bytes_column([meta] * len(positions))}


def unpack_clips(rows: Mapping[str, np.ndarray]) -> list[Clip]:
    """Return the clips that `pack_clips` packed; their tensors own their memory.

    Raises the error of rows that `pack_error` packed.
    """
    columns = zip(_unpack_pixels(rows), rows["masks"], rows["prompt_masks"], rows["meta"])
    return [_unpack_clip(*row) for row in columns]


def _unpack_clip(pixels: dict[str, Any], masks: bytes, prompt_masks: bytes, meta: bytes) -> Clip:
    values = json.loads(meta)
    if "error" in values:
        raise _ERRORS.get(values["error"], TrainingError)(values["message"])
    num_frames, (height, width) = len(values["frame_indices"]), values["size"]
    num_objects = values["num_objects"]
    import torch

    clip_masks = _unpack_bits(masks, (num_frames, num_objects, height, width))
    num_prompt_masks = sum(prompt["has_mask"] for prompt in values["prompts"])
    drawn = iter(_unpack_bits(prompt_masks, (num_prompt_masks, height, width)))
    clip = Clip(
        **pixels,  # type: ignore[typeddict-item]
        masks=clip_masks,
        valid_masks=torch.tensor(values["valid_masks"], dtype=torch.bool).reshape(num_frames, num_objects),
        prompts=[_unpack_prompt(prompt, drawn) for prompt in values["prompts"]],
        video_id=values["video_id"],
        frame_indices=values["frame_indices"],
        object_ids=values["object_ids"],
        original_size=(values["original_size"][0], values["original_size"][1]),
        num_objects=num_objects,
    )
    if "quarantined" in values:
        clip["quarantined"] = values["quarantined"]
    return clip


def _pack_pixels(clips: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    if "features" not in clips[0]:
        return {"images": _stack([np.asarray(clip["images"]) for clip in clips])}
    levels = zip(*([as_bits(level) for level in clip["features"]] for clip in clips))
    return {f"{_FEATURES}{place}": _stack(level) for place, level in enumerate(levels)}


def _unpack_pixels(rows: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return images or features per clip, copied: the batches of Ray Data are read-only."""
    import torch

    if "images" in rows:
        return [{"images": torch.from_numpy(images.copy())} for images in rows["images"]]
    levels = [rows[name] for name in sorted(name for name in rows if name.startswith(_FEATURES))]
    return [{"features": [from_bits(level.copy()) for level in row]} for row in zip(*levels)]


def _stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)  # a view of one saves a copy


def _pack_meta(clip: Mapping[str, Any]) -> bytes:
    values: dict[str, Any] = {
        "video_id": clip["video_id"],
        "num_objects": int(clip["num_objects"]),
        "size": [int(side) for side in clip["masks"].shape[-2:]],
        "original_size": [int(side) for side in clip["original_size"]],
        "frame_indices": [int(i) for i in clip["frame_indices"]],
        "object_ids": [int(i) for i in clip["object_ids"]],
        "valid_masks": clip["valid_masks"].tolist(),
        "prompts": [_pack_prompt(prompt) for prompt in clip["prompts"]],
    }
    if "quarantined" in clip:
        values["quarantined"] = clip["quarantined"]
    return json.dumps(values).encode()


def _pack_prompt(prompt: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {key: prompt[key] for key in _PROMPT_SCALARS if key in prompt}
    # A float32 written as the shortest decimal of its double reads back to the same bits.
    values.update({key: prompt[key].tolist() for key in ("point_coords", "point_labels") if key in prompt})
    values["has_mask"] = prompt.get("mask") is not None
    return values


def _unpack_prompt(values: dict[str, Any], masks: Any) -> Prompt:
    import torch

    prompt = Prompt(**{key: values[key] for key in _PROMPT_SCALARS if key in values})  # type: ignore[typeddict-item]
    if "point_coords" in values:
        prompt["point_coords"] = torch.tensor(values["point_coords"], dtype=torch.float32).reshape(-1, 2)
    if "point_labels" in values:
        prompt["point_labels"] = torch.tensor(values["point_labels"], dtype=torch.int32)
    if values["has_mask"]:
        prompt["mask"] = next(masks).clone()
    return prompt


def _pack_prompt_masks(prompts: Sequence[Mapping[str, Any]]) -> bytes:
    masks = [np.asarray(prompt["mask"]) for prompt in prompts if prompt.get("mask") is not None]
    return _pack_bits(np.stack(masks)) if masks else b""


def _pack_bits(masks: np.ndarray) -> bytes:
    return np.packbits(masks.reshape(-1)).tobytes()


def _unpack_bits(packed: bytes, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=int(np.prod(shape)))
    return torch.from_numpy(bits.view(np.bool_).reshape(shape))


def _bytes_column(values: Sequence[bytes]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
