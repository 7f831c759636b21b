"""SAM 2's own video predictor, as its users build it, with the weights of a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from PIL import Image

from sam2vt.core.model import build
from sam2vt.core.model.sam2 import PIXEL_MEAN, PIXEL_STD, SAM2Model
from sam2vt.core.types import Prompt


def set_up_hydra() -> None:
    """Give SAM 2's own builders the Hydra that importing it sets up, and that other tests take down."""
    import sam2  # noqa: F401
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    if not GlobalHydra.instance().is_initialized():
        initialize_config_module("sam2", version_base="1.2")


class StockTracker:
    """`build_sam2_video_predictor` over frames, uint8 [T, 3, S, S], of a video of size (height, width)."""

    def __init__(
        self, model: SAM2Model, frames: torch.Tensor, size: tuple[int, int], folder: Path, **options: Any
    ) -> None:
        from sam2.build_sam import build_sam2_video_predictor

        set_up_hydra()
        config = build.network_config(model.config_path, model.image_size, model.architecture)
        yaml = folder / "network.yaml"
        yaml.write_text("# @package _global_\n" + OmegaConf.to_yaml(config))
        self.predictor = build_sam2_video_predictor(f"//{yaml}", device="cpu", **options)
        self.predictor.load_state_dict(model.network.state_dict())
        # Its loader takes JPEG only: the frames are put instead of what it read.
        (folder / "frames").mkdir()
        for index in range(len(frames)):
            Image.new("RGB", size[::-1]).save(folder / "frames" / f"{index:05d}.jpg")
        self.state = self.predictor.init_state(str(folder / "frames"), offload_video_to_cpu=True)
        mean, std = torch.tensor(PIXEL_MEAN).view(3, 1, 1), torch.tensor(PIXEL_STD).view(3, 1, 1)
        self.state["images"] = (frames.float() / 255 - mean) / std
        self.state["cached_features"].clear()
        self.size = model.image_size

    def masks(self, *prompts: Prompt, start: int | None = None) -> dict[int, torch.Tensor]:
        """Masks bool [K, height, width] by frame, from `start` on; None: from the first prompt on."""
        self.predictor.reset_state(self.state)
        self.state["cached_features"].clear()
        for given in prompts:
            where = (self.state, given["frame_index"], given["object_index"])
            if given["type"] == "mask":
                self.predictor.add_new_mask(*where, given["mask"])
                continue
            scaled = given["point_coords"] / self.size
            height, width = self.state["video_height"], self.state["video_width"]
            points, labels = scaled * torch.tensor([width, height]), given["point_labels"]
            if given["type"] == "box":
                self.predictor.add_new_points_or_box(*where, box=points.flatten())
            else:
                self.predictor.add_new_points_or_box(*where, points, labels)
        tracked = self.predictor.propagate_in_video(self.state, start_frame_idx=start)
        return {frame: logits[:, 0] > 0 for frame, _, logits in tracked}
