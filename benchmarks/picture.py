"""The animated picture of README: the demo's network tracks the generated videos that it trained on.

    python benchmarks/picture.py [--work runs/picture] [--out docs/tracking.webp]

Trains the demo's network from random weights on one thread, on clips of four frames, unlike the demo. Then it
tracks the same videos from a mask of each object on its first frame. The captions show what `sam2vt evaluate`
prints: the scores of each video and their mean, beside those of repeating the first mask. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.evaluation.canvas import LABEL, Canvas
from sam2vt.core.evaluation.drawing import draw_masks, resize_masks
from sam2vt.core.evaluation.jf import mean_score
from sam2vt.core.evaluation.video import VideoResult, evaluate_video, hold_first_mask
from sam2vt.core.prediction.weights import load_model
from sam2vt.core.types import VideoRecord
from sam2vt.train import setup_logging, train

STEPS = 330
OVERRIDES = (
    "experiment=demo",
    "max_objects=3",
    "dataset.batch_size=2",
    "dataset.video_clip_length=4",
    "dataset.max_frame_stride=null",
    "dataset.prompt_types=[mask,point]",
    "dataset.num_workers=0",
    "scheduler.warmup_steps=20",
    f"trainer.max_steps={STEPS}",
    f"trainer.val_check_interval={STEPS}",
    "trainer.num_overlay_videos=0",
)
HEIGHT, WIDTH = 180, 240  # of a panel, pixels
MARGIN = 8
COLUMNS = ("ground truth", "sam2vt", "first mask repeated")
MILLISECONDS = 110

Masks = Mapping[int, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/picture"), help="videos and the run")
    parser.add_argument("--out", type=Path, default=Path("docs/tracking.webp"))
    arguments = parser.parse_args()
    # Sums are split among threads, so that another number of them gives other weights.
    torch.set_num_threads(1)
    setup_logging()
    data, run = arguments.work / "videos", arguments.work / "run"
    if not data.exists():
        write_sample_data(data)
    checkpoint = run / "checkpoints" / "last.ckpt"
    if not checkpoint.exists():  # a second call draws again without training
        train(load_config(compose_config([*OVERRIDES, f"dataset.data_path={data}", f"output_dir={run}"])))
    draw(checkpoint, data, arguments.out)


def draw(checkpoint: Path, data: Path, out: Path) -> None:
    """Track all videos of `data`, print their scores, and write the animation, a row per video."""
    model = load_model(str(checkpoint), device="cpu")
    records = load_records("auto", str(data))
    common = (model.image_size, PromptGenerator(["mask"]), 0)
    films, scores, held_scores = [], [], []
    for record in records:
        film = Film(record)
        result = evaluate_video(model, record, *common, on_frame=film)
        held = hold_first_mask(record, *common)
        print(f"{record.video_id}: J&F {jf(result):.3f}, first mask repeated {jf(held):.3f}")
        scores += result.scores
        held_scores += held.scores
        films.append((film, result, held))
    mean, baseline = (mean_score(each).values["J&F"] for each in (scores, held_scores))
    title = (
        f"J&F {mean:.2f}, first mask repeated {baseline:.2f} (mean over {len(scores)} objects) · "
        f"{STEPS} steps from random weights, CPU"
    )
    print(f"mean of {len(records)} videos: J&F {mean:.3f}, first mask repeated {baseline:.3f}")
    pictures = list(animation(films, title))
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        out,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=MILLISECONDS,
        loop=0,
        quality=70,
        method=6,
    )
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def jf(result: VideoResult) -> float:
    return result.mean.values["J&F"]


class Film:
    """Masks of every frame of a video at the panels' size; pass it as `on_frame` to `evaluate_video`."""

    def __init__(self, record: VideoRecord) -> None:
        self.record = record
        self._masks: list[tuple[Masks, Masks, Masks]] = []
        self._first: dict[int, np.ndarray] = {}

    def __call__(self, index: int, image: np.ndarray, predictions: Masks, truth: Masks) -> None:
        for object_id, mask in truth.items():
            self._first.setdefault(object_id, mask)
        shown = (truth, predictions, dict(self._first))
        self._masks.append(tuple(resize_masks(masks, (HEIGHT, WIDTH)) for masks in shown))

    def panels(self) -> Iterator[list[np.ndarray]]:
        """Per frame the panels of COLUMNS, uint8 [HEIGHT, WIDTH, 3]; white is the ground truth's outline."""
        images = read_frames(self.record, list(self.record.frames), (HEIGHT, WIDTH))
        places = {object_id: place for place, object_id in enumerate(sorted(self._first))}
        for image, (truth, *others) in zip(images, self._masks):
            yield [
                draw_masks(image, truth, places),
                *(draw_masks(image, masks, places, truth.values()) for masks in others),
            ]


def animation(films: Sequence[tuple[Film, VideoResult, VideoResult]], title: str) -> Iterator[Image.Image]:
    """Per frame one picture: a row of panels for each video, below the title."""
    for rows in zip(*(film.panels() for film, _, _ in films)):
        canvas = Canvas(
            height=LABEL + MARGIN + len(rows) * (LABEL + HEIGHT + MARGIN),
            width=MARGIN + len(COLUMNS) * (WIDTH + MARGIN),
            style="screen",
        )
        canvas.text(title, MARGIN, MARGIN + LABEL / 2, 14)
        for row, (panels, (_, result, held)) in enumerate(zip(rows, films, strict=True)):
            top = LABEL + MARGIN + row * (LABEL + HEIGHT + MARGIN)
            captions = ("", f" · J&F {jf(result):.2f}", f" · J&F {jf(held):.2f}")
            for column, (panel, name, score) in enumerate(zip(panels, COLUMNS, captions)):
                canvas.panel(panel, name + score, MARGIN + column * (WIDTH + MARGIN), top, 13)
        yield canvas.image


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
