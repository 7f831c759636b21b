"""Table of networks of SAM 2's family: what a file of weights is, by the names and shapes of its tensors.

SAM 2.0 and 2.1, and what was tuned from either, have the same tensors but for SAM 2.1's memory of absent
objects. So size and version are found without the file's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sam2vt.core.model.network_yaml import meta_yaml


class Relative(NamedTuple):
    """What a file is, and the YAML of the network that reads it; None: none does."""

    name: str
    config_path: str | None = None

    def __str__(self) -> str:
        return self.name if self.config_path is None else f"{self.name}, whose YAML is {self.config_path}"


# (channels of the first stage, blocks of the encoder) -> Meta's size.
_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_NANO = (24, 5)

_TRUNK = "image_encoder.trunk."
_PATCHES, _WINDOW = f"{_TRUNK}patch_embed.proj.weight", f"{_TRUNK}pos_embed_window"
_SINCE_2_1 = "no_obj_embed_spatial"
_TITLES = {"sam2": "SAM 2.0", "sam2.1": "SAM 2.1"}
_OTHERS = (
    # (a name that it has, one that it lacks, what it is)
    ("image_encoder.pos_embed", "memory_attention.", "a SAM without memory, of before SAM 2"),
    ("memory_attention.", _WINDOW, "a tracker with another image encoder, such as EdgeTAM or EfficientTAM"),
)


def recognised(state: Mapping[str, Any]) -> Relative | None:
    """Return what the tensors of a file are, whatever stands before their names; None: nothing known."""
    front = next((name[: -len(_PATCHES)] for name in state if name.endswith(_PATCHES)), "")
    names = {name.removeprefix(front) for name in state}

    def has(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    for there, missing, what in _OTHERS:
        if has(there) and not has(missing):
            return Relative(what)
    if not has("memory_attention.") or _PATCHES not in names:
        return None
    blocks = {name.split(".")[3] for name in names if name.startswith(f"{_TRUNK}blocks.")}
    key = (state[front + _PATCHES].shape[0], len(blocks))
    version = "sam2.1" if _SINCE_2_1 in names else "sam2"
    if key == _NANO and version == "sam2.1":
        return Relative("model=nano", "network/sam2.1_nano.yaml")
    if key not in _SIZES:
        return Relative(f"a {_TITLES[version]} of a size of its own")
    return Relative(f"{_TITLES[version]} {_SIZES[key]}", meta_yaml(version, _SIZES[key]))
