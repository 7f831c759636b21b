"""Modules of SAM 2 that are replaced by ours: the same parameters and results, from less work and memory."""

from __future__ import annotations

from collections.abc import Mapping

from sam2.modeling.backbones.hieradet import MultiScaleBlock
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor, nn

from sam2vt.core.model.products import Linear
from sam2vt.core.model.speedups.image_encoder import UnpaddedBlock
from sam2vt.core.model.tracking.memory_layers import MemoryLayer, MemoryLayers, RotaryAttention


class SharedCodes(PositionEmbeddingSine):
    """Position codes that all images of a call share; SAM 2 repeats them for each."""

    def forward(self, x: Tensor) -> Tensor:
        """[I, C, H, W] to codes of the same size."""
        return super().forward(x[:1]).expand(len(x), -1, -1, -1)


OURS: dict[type[nn.Module], type[nn.Module]] = {
    MultiScaleBlock: UnpaddedBlock,
    RoPEAttention: RotaryAttention,
    MemoryAttention: MemoryLayers,
    MemoryAttentionLayer: MemoryLayer,
    PositionEmbeddingSine: SharedCodes,
    nn.Linear: Linear,
}
STOCK: dict[type[nn.Module], type[nn.Module]] = {ours: stock for stock, ours in OURS.items()}


def replace_modules(network: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]] = OURS) -> None:
    """Parameters keep their names and values; a module of any other class stays as it is.

    With `STOCK` as classes the network is SAM 2's own again.
    """
    for module in network.modules():
        module.__class__ = classes.get(type(module), type(module))
