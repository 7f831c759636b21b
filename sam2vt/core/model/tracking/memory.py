"""Keep the memory of a cohort of objects: an entry per frame, and the entries that a frame reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """A frame's memory of K objects: L = h*w tokens of M channels each, and a pointer."""

    tokens: Tensor  # [L, K, M]
    positions: Tensor  # [L, 1, M], the same for every object
    pointer: Tensor | None  # [K, C]; None where the network uses none

    def detached(self) -> Entry:
        """Return the same entry without a gradient."""
        pointer = None if self.pointer is None else self.pointer.detach()
        return Entry(self.tokens.detach(), self.positions, pointer)

    def of(self, places: Sequence[int]) -> Entry:
        """Return the entry of the objects at these places."""
        columns = torch.tensor(places, device=self.tokens.device)
        pointer = None if self.pointer is None else self.pointer[columns]
        return Entry(self.tokens[:, columns], self.positions, pointer)

    def replaced(self, place: int, entry: Entry) -> Entry:
        """Return the same entry, with another frame call's entry for the object at a place."""
        tokens = self.tokens.clone()
        tokens[:, place] = entry.tokens[:, 0]
        if self.pointer is None or entry.pointer is None:
            return Entry(tokens, self.positions, None)
        pointer = self.pointer.clone()
        pointer[place] = entry.pointer[0]
        return Entry(tokens, self.positions, pointer)


def merge_entries(entries: list[Entry], order: list[int]) -> Entry:
    """Join the entries of a frame's groups; `order` are the objects' places, group after group."""
    if len(entries) == 1:
        return entries[0]
    device = entries[0].tokens.device
    back = torch.argsort(torch.tensor(order, device=device))
    pointers = [entry.pointer for entry in entries if entry.pointer is not None]
    return Entry(
        torch.cat([entry.tokens for entry in entries], dim=1)[:, back],
        entries[0].positions,
        torch.cat(pointers)[back] if pointers else None,
    )


class MemoryBank:
    """Memory entries of one cohort by frame, conditioning frames separate from the others."""

    def __init__(self) -> None:
        self.conditioning: dict[int, Entry] = {}
        self.others: dict[int, Entry] = {}

    def add(self, frame: int, entry: Entry, conditioning: bool) -> None:
        """Add the entry of a frame."""
        (self.conditioning if conditioning else self.others)[frame] = entry

    def cut_gradient(self) -> None:
        """Detach all entries: backpropagation through time ends here."""
        for entries in (self.conditioning, self.others):
            for frame, entry in entries.items():
                entries[frame] = entry.detached()

    def forget_before(self, frame: int, after: int | None = None) -> None:
        """Drop entries before `frame`, and after `after` if given; conditioning frames stay."""
        for old in [f for f in self.others if f < frame and (after is None or f > after)]:
            del self.others[old]

    def changed(self, frame_of: Callable[[int], int], entry_of: Callable[[Entry], Entry]) -> MemoryBank:
        """Return a bank with each entry of this one at another frame, or in another form."""
        bank = MemoryBank()
        bank.conditioning = {frame_of(f): entry_of(entry) for f, entry in self.conditioning.items()}
        bank.others = {frame_of(f): entry_of(entry) for f, entry in self.others.items()}
        return bank

    def state(self) -> list[Any]:
        """Return the entries in plain containers."""
        banks = (self.conditioning, self.others)
        return [
            [(f, each.tokens, each.positions, each.pointer) for f, each in bank.items()] for bank in banks
        ]

    def restore(self, state: list[Any]) -> None:
        """Restore the entries that `state` returned."""
        self.conditioning, self.others = ({f: Entry(*each) for f, *each in bank} for bank in state)

    def select(self, frame: int, max_conditioning: int) -> Selection:
        """Return the entries for `frame`: at most this many conditioning frames (-1: all), the closest in
        time.

        The selection does not change when the bank forgets or detaches entries later.
        """
        from sam2.modeling.sam2_utils import select_closest_cond_frames

        chosen, rest = select_closest_cond_frames(frame, self.conditioning, max_conditioning)
        # A conditioning frame that is not chosen counts as any other.
        return Selection(dict(chosen), {**rest, **self.others})


@dataclass(frozen=True)
class Selection:
    """The entries that one frame may read."""

    conditioning: dict[int, Entry]
    others: dict[int, Entry]

    def spatial(self, network: Any, frame: int) -> Iterator[tuple[int, Entry]]:
        """Yield (row of the temporal position codes, entry): conditioning frames, then the latest ones."""
        last_row = network.num_maskmem - 1
        for entry in self.conditioning.values():
            yield last_row, entry
        stride = 1 if network.training else network.memory_temporal_stride_for_eval
        for back in range(last_row, 0, -1):
            # The frame before this one always; further back every stride-th.
            other = frame - 1 if back == 1 else ((frame - 2) // stride - (back - 2)) * stride
            if other in self.others:
                yield back - 1, self.others[other]

    def pointers(self, network: Any, frame: int, num_frames: int) -> Iterator[tuple[int, Tensor]]:
        """Yield (frames back, pointer [K, C]); frames ahead are negative if the network uses signs."""
        past_only = not network.training and network.only_obj_ptrs_in_the_past_for_eval
        for other, entry in self.conditioning.items():
            if past_only and other > frame:
                continue
            back = frame - other
            yield back if network.use_signed_tpos_enc_to_obj_ptrs else abs(back), _pointer(entry)
        for back in range(1, min(num_frames, network.max_obj_ptrs_in_encoder)):
            if frame - back in self.others:
                yield back, _pointer(self.others[frame - back])

    def most_frames(self, network: Any, num_frames: int) -> int:
        """Return the most entries that `spatial` yields on a frame of the clip."""
        return len(self.conditioning) + min(network.num_maskmem - 1, self._most_others(num_frames))

    def most_pointers(self, network: Any, num_frames: int) -> int:
        """Return the most pointers that `pointers` yields on a frame of the clip."""
        furthest = min(num_frames, network.max_obj_ptrs_in_encoder) - 1
        return len(self.conditioning) + min(furthest, self._most_others(num_frames))

    def _most_others(self, num_frames: int) -> int:
        """Return the number of frames but conditioning ones and the one that reads."""
        return num_frames - len(self.conditioning) - 1


def frames_read_back(network: Any) -> int:
    """Return how many frames back the memory attention reads at most, besides conditioning frames."""
    strided = network.num_maskmem - 2  # as the frame before is always read
    furthest = 1 + strided * network.memory_temporal_stride_for_eval
    return max(furthest, network.max_obj_ptrs_in_encoder - 1)


def _pointer(entry: Entry) -> Tensor:
    assert entry.pointer is not None
    return entry.pointer
