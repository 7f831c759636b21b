"""What a cohort of objects remembers of the frames it went through."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Entry = dict[str, Any]  # maskmem_features, maskmem_pos_enc, obj_ptr, as SAM 2's memory attention reads them


class MemoryBank:
    """Memory entries of one cohort by frame, conditioning frames apart from the others."""

    def __init__(self) -> None:
        self.conditioning: dict[int, Entry] = {}
        self.others: dict[int, Entry] = {}

    def add(self, frame: int, entry: Entry, conditioning: bool) -> None:
        (self.conditioning if conditioning else self.others)[frame] = entry

    def as_output_dict(self) -> dict[str, dict[int, Entry]]:
        return {"cond_frame_outputs": self.conditioning, "non_cond_frame_outputs": self.others}

    def cut_gradient(self) -> None:
        """Detach everything remembered: backpropagation through time ends here."""
        for entries in (self.conditioning, self.others):
            for frame, entry in entries.items():
                entries[frame] = {name: _detached(value) for name, value in entry.items()}

    def forget_before(self, frame: int) -> None:
        """Drop what no later frame reads; conditioning frames stay."""
        for old in [f for f in self.others if f < frame]:
            del self.others[old]


def frames_read_back(network: Any) -> int:
    """How many frames back the memory attention of this network can look."""
    stride = max(1, network.memory_temporal_stride_for_eval)
    return max(network.num_maskmem * stride, network.max_obj_ptrs_in_encoder) + 1


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list):
        return [_detached(item) for item in value]
    return value
