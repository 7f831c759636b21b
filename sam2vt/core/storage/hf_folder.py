"""Recognise a folder in the form of `transformers.Sam2VideoModel`, before its weights are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sam2vt.config import HF_FILES
from sam2vt.errors import CheckpointError

CONFIG, WEIGHTS = HF_FILES
CARD = "README.md"
# The files of an export; the last three are the processor's.
FILES = (
    CARD,
    CONFIG,
    WEIGHTS,
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
MODEL_TYPE = "sam2_video"


def is_weights(path: str) -> bool:
    """Return whether a path or URI names the weights' file of such a folder."""
    return path.rpartition("/")[2] == WEIGHTS


def weights_of(path: str) -> str:
    """Return the weights' file of a folder in the form of transformers; any other path as it is.

    Raises CheckpointError for such a folder without weights, or of another model.
    """
    folder = Path(path).expanduser()
    if "://" in path or not any((folder / name).is_file() for name in HF_FILES):
        return path
    if not (folder / WEIGHTS).is_file():
        in_parts = any(folder.glob("model-*.safetensors"))
        got = "weights in several files" if in_parts else "no weights"
        raise CheckpointError(
            f"{path}: holds {CONFIG} and {got}; needed is {WEIGHTS}, which `sam2vt export --to hf` and "
            f"transformers' save_pretrained write (with a max_shard_size above the file)"
        )
    read_config(folder / CONFIG)
    return f"{path.rstrip('/')}/{WEIGHTS}"


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a `Sam2VideoModel`. Raises CheckpointError if the file has none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        text = f"is missing; {WEIGHTS} needs it beside it, to know its network"
        raise CheckpointError(f"{path}: {text}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as transformers' configuration: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != MODEL_TYPE:
        hint = "; a Sam2Model segments single images, without memory" if kind == "sam2" else ""
        raise CheckpointError(
            f"{path}: model_type is {kind!r}; needed is {MODEL_TYPE!r}, transformers' Sam2VideoModel{hint}"
        )
    return config
