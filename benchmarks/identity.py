"""What teaches a tracker to keep objects apart: one setting changed at a time, from random weights.

Each run trains nano on generated videos through as many frames as the others, and is judged on videos that it
never saw, of one object and of two: J, and the swap rate (how often a mask is on another object).

    python benchmarks/identity.py [--seeds 3] [--only NAME ...] [--out FILE.md]
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from datetime import date
from pathlib import Path
from typing import NamedTuple

from machine import argument_parser, in_short, machine, versions, write_record
from trainings import run, train

FRAMES = 6400  # that a run trains on, prompted ones included
VIDEOS, JUDGED = 40, 12  # generated ones, of 24 frames
COMMON = (
    *(
        "model=nano",
        "trainer=cpu",
        "max_objects=1",
        "dataset.prompt_types=[mask]",
        "dataset.max_frame_stride=2",
    ),
    *("model.multimask_output_for_tracking=false", "optimizer.lr=1e-3", "optimizer.weight_decay=0.01"),
    *("scheduler.warmup_steps=50", "trainer.gradient_clip_val=1.0", "trainer.max_epochs=1"),
    *("dataset.clips_per_video=1000", "trainer.num_overlay_videos=0", "trainer.enable_progress_bar=false"),
)
BASE = "2 frames, 8 clips, 1 object"


class Variant(NamedTuple):
    """The size of a step, and settings beside the common ones."""

    frames: int = 2
    clips: int = 8
    overrides: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return FRAMES // (self.frames * self.clips)


VARIANTS = {
    BASE: Variant(),
    "4 frames, 4 clips": Variant(4, 4),
    "8 frames, 2 clips": Variant(8, 2),
    "2 clips a step": Variant(2, 2),
    "up to 2 prompted objects": Variant(overrides=("max_objects=2",)),
    "distractors pasted in": Variant(overrides=("dataset.augment.paste_probability=0.3",)),
    "learning rate 3e-4": Variant(overrides=("optimizer.lr=3e-4",)),
    "learning rate 3e-3": Variant(overrides=("optimizer.lr=3e-3",)),
}


class Judged(NamedTuple):
    """Scores of the last validation, and those of repeating the first mask."""

    j: float
    swaps: float
    held: float


def judged(root: Path, name: str, seed: int) -> Judged:
    """Train a variant, and return how it does on the videos that it did not see."""
    variant, folder = VARIANTS[name], root / f"{list(VARIANTS).index(name)}-{seed}"
    steps = variant.steps
    train(
        [
            *COMMON,
            *(f"dataset.data_path={root / 'seen'}", f"valdataset.data_path={root / 'unseen'}"),
            *(f"dataset.video_clip_length={variant.frames}", f"dataset.batch_size={variant.clips}"),
            *(f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"),
            *(f"seed={seed}", f"output_dir={folder}", *variant.overrides),
        ]
    )
    with (folder / "results.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["val/J"]][-1]
    return Judged(*(float(last[f"val/{column}"]) for column in ("J", "swap_rate", "J_hold_first")))


def row(name: str, found: list[Judged]) -> str:
    spans = [
        f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        for values in ([each.j for each in found], [each.swaps for each in found])
    ]
    return f"| {name} | {VARIANTS[name].steps} | {' | '.join(spans)} |"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    found: dict[str, list[Judged]] = {name: [] for name in options.only}
    with tempfile.TemporaryDirectory(prefix="identity-") as folder:
        root = Path(folder)
        for name, videos, seed in (("seen", VIDEOS, 0), ("unseen", JUDGED, 1)):
            size = ("--videos", str(videos), "--frames", "24", "--seed", str(seed))
            run("-m", "sam2vt.cli", "sample-data", str(root / name), *size)
        for seed in range(options.seeds):
            for name in options.only:
                found[name].append(judged(root, name, seed))
                print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    middle = {name: statistics.median(each.j for each in rows) for name, rows in found.items()}
    best = max(middle, key=lambda name: middle[name])
    lines = [
        f"# What teaches identity, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}, 1 thread; {date.today().isoformat()}.",
        f"nano at 128 px from random weights; each run sees {FRAMES:,} frames of {VIDEOS} videos, judged "
        f"on {JUDGED} others; medians of {options.seeds} seeds (lowest to highest). Repeating the first mask "
        f"has J {next(iter(found.values()))[0].held:.2f}. Each row changes the first in one thing.",
        "",
        "| | steps | J | swap rate |",
        "|---|---:|---:|---:|",
        *(row(name, rows) for name, rows in found.items()),
        "",
        in_short(f"{best}: J {middle[best]:.2f}; the worst, {min(middle.values()):.2f}"),
    ]
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
