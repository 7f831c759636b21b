"""The animated picture of README: a trained model's tracking of generated videos that it never saw.

    python benchmarks/picture.py [--work runs/picture] [--out docs/tracking.webp]

Trains the demo's network from random weights on generated videos, on one thread, then tracks the first two
videos of another seed. The captions show what `sam2vt evaluate` would print: the scores of these videos, and
the mean over all unseen ones beside the baseline of repeating the first mask. All seeds are fixed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam2vt.commands.evaluate import load_model
from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.evaluation.drawing import DIM_TEXT, Canvas, draw_masks, resize_masks
from sam2vt.core.evaluation.jf import mean_score
from sam2vt.core.evaluation.video import VideoResult, evaluate_video, hold_first_mask
from sam2vt.core.types import VideoRecord
from sam2vt.train import setup_logging, train

TRAIN_VIDEOS, UNSEEN_VIDEOS, FRAMES = 300, 12, 40
DRAWN = (0, 3)  # of the unseen videos: the first two in which both objects are tracked
STEPS, BATCH = 500, 8
# Two frames per clip: with four, this network learns what moves but mixes the two objects up.
OVERRIDES = (
    "experiment=demo",
    "dataset.video_clip_length=2",
    "valdataset.video_clip_length=4",
    f"dataset.batch_size={BATCH}",
    "dataset.num_workers=0",
    f"trainer.max_steps={STEPS}",
    f"trainer.val_check_interval={STEPS}",
    "trainer.num_overlay_videos=0",
)
HEIGHT, WIDTH = 210, 280  # of a panel, pixels
MARGIN, LINE = 8, 22
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
    seen = sample_data(arguments.work / "train", TRAIN_VIDEOS, seed=0)
    unseen = sample_data(arguments.work / "unseen", UNSEEN_VIDEOS, seed=1)
    checkpoint = trained(arguments.work / "run", seen, unseen)
    draw(checkpoint, unseen, arguments.out)


def sample_data(folder: Path, videos: int, seed: int) -> Path:
    """Return the folder, filled with generated videos unless an earlier call did."""
    if not folder.exists():
        write_sample_data(folder, videos, FRAMES, seed=seed)
    return folder


def trained(folder: Path, seen: Path, unseen: Path) -> Path:
    """Return the checkpoint after the last step, trained unless an earlier call did."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not checkpoint.exists():
        paths = [f"dataset.data_path={seen}", f"valdataset.data_path={unseen}", f"output_dir={folder}"]
        train(load_config(compose_config([*OVERRIDES, *paths])))
    return checkpoint


def draw(checkpoint: Path, data: Path, out: Path) -> None:
    """Track all videos of `data`, print their scores, and write the animation of the first ones."""
    model = load_model(str(checkpoint), device="cpu")
    records = load_records("auto", str(data))
    common = (model.image_size, PromptGenerator(["mask"]), 0)
    films, scores, held_scores = [], [], []
    for number, record in enumerate(records):
        film = Film(record)
        result = evaluate_video(model, record, *common, on_frame=film)
        held = hold_first_mask(record, *common)
        print(f"{record.video_id}: J&F {result.mean.jf:.3f}, first mask repeated {held.mean.jf:.3f}")
        scores += result.scores
        held_scores += held.scores
        if number in DRAWN:
            films.append((film, result, held))
    mean, baseline = mean_score(scores), mean_score(held_scores)
    title = (
        f"{len(records)} unseen videos: J&F {mean.jf:.2f} (first mask repeated {baseline.jf:.2f}) · "
        f"{STEPS} steps from random weights on a CPU"
    )
    print(f"mean of {len(records)} videos: J&F {mean.jf:.3f}, first mask repeated {baseline.jf:.3f}")
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
            height=LINE + MARGIN + len(rows) * (LINE + HEIGHT + MARGIN),
            width=MARGIN + len(COLUMNS) * (WIDTH + MARGIN),
        )
        canvas.text(title, MARGIN, MARGIN + LINE / 2, 15)
        for row, (panels, (_, result, held)) in enumerate(zip(rows, films, strict=True)):
            top = LINE + MARGIN + row * (LINE + HEIGHT + MARGIN)
            captions = ("", f" · J&F {result.mean.jf:.2f}", f" · J&F {held.mean.jf:.2f}")
            for column, (panel, name, score) in enumerate(zip(panels, COLUMNS, captions)):
                x = MARGIN + column * (WIDTH + MARGIN)
                canvas.text(name + score, x, top + LINE / 2, 13, DIM_TEXT)
                canvas.paste(panel, x, top + LINE)
        yield canvas.image()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
