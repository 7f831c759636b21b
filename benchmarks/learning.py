"""Learning against the reference: SAM 2's own training model and loss, and ours, from the same weights.

Both see the same clips of one video in the same order, with the same network, random weights and
optimizer; both are judged by the same evaluation, with SAM 2's object-score gate on, on the frames that
they trained on. Prints J over the steps and seconds per step of both, and the baseline of repeating the
first mask.

    python benchmarks/learning.py DATA [--steps 300] [--seeds 5] [--out FILE.md]
"""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import lightning as L
import torch
from machine import argument_parser, in_short, machine, write_record
from reference import reference_batch, reference_loss, reference_model
from torch.utils.data import DataLoader

from sam2vt.config import Config, DatasetConfig, ModelConfig, OptimizerConfig, SchedulerConfig
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.dataset import clip_spec
from sam2vt.core.data.formats import load_records
from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.training.optim import build_optimizer, build_scheduler
from sam2vt.core.training.trainer import SAM2LightningModule
from sam2vt.core.types import Clip, SampleKey, VideoRecord

SIZE = 128
CLIP_LENGTH = 4
NETWORK = "network/sam2.1_nano.yaml"
GRADIENT_CLIP = 1.0


@dataclass
class Curve:
    """One training: J after some steps, and seconds a step without the evaluations."""

    points: list[tuple[int, float]]
    seconds_a_step: float


def configuration(seed: int, steps: int) -> Config:
    """What both sides share; the loss is our default."""
    return Config(
        model=ModelConfig(
            config_path=NETWORK, trainable_modules=["*"], device="cpu", image_size=SIZE, max_objects=3
        ),
        dataset=DatasetConfig(
            image_size=(SIZE, SIZE), video_clip_length=CLIP_LENGTH, batch_size=1, prompt_types=["mask"]
        ),
        optimizer=OptimizerConfig(type="adamw", lr=1e-3, weight_decay=0.05),
        scheduler=SchedulerConfig(type="cosine", T_max=steps, warmup_steps=10),
        seed=seed,
    )


def train_ours(
    config: Config,
    clips: Sequence[Clip],
    judge: Callable[[SAM2Model], float],
    when: Collection[int] | None = None,
) -> Curve:
    """Through Lightning's Trainer, as `sam2vt train` does it; judged after these steps."""
    module = SAM2LightningModule(config)
    watch = _Watch(len(clips), judge, when)

    class Judge(L.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            watch.start()

        def on_train_batch_end(self, trainer: Any, module: Any, *batch: Any) -> None:
            watch.step(module.model)

    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=len(clips),
        gradient_clip_val=GRADIENT_CLIP,
        callbacks=[Judge()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(list(clips), batch_size=1, collate_fn=collate_fn))
    return watch.curve()


def train_reference(config: Config, clips: Sequence[Clip], judge: Callable[[SAM2Model], float]) -> Curve:
    """SAM2Train with MultiStepMultiMasksAndIous and its published weights, in a bare loop."""
    ours = SAM2LightningModule(config)
    ours.setup()
    reference = reference_model(ours.model, NETWORK)
    criterion = reference_loss()
    optimizer = build_optimizer(reference, config.optimizer)
    scheduler = build_scheduler(optimizer, config.scheduler, len(clips))
    assert scheduler is not None
    watch = _Watch(len(clips), judge)
    torch.manual_seed(config.seed)
    watch.start()
    for batch in DataLoader(list(clips), batch_size=1, collate_fn=collate_fn):
        reference.train()
        datapoint = reference_batch(batch, ours.model)
        losses = criterion(reference(datapoint), datapoint.masks)
        optimizer.zero_grad()
        losses["core_loss"].backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), GRADIENT_CLIP)
        optimizer.step()
        scheduler.step()
        if watch.due():
            ours.model.network.load_state_dict(reference.state_dict())
        watch.step(ours.model)
    return watch.curve()


class _Watch:
    """Counts steps, judges after some of them, and leaves the judging out of the time."""

    def __init__(
        self, steps: int, judge: Callable[[SAM2Model], float], when: Collection[int] | None = None
    ) -> None:
        self.steps, self.judge = steps, judge
        self.when = when or {steps // 6, steps // 3, 2 * steps // 3, steps}
        self.done, self.seconds = 0, 0.0
        self.points: list[tuple[int, float]] = []

    def start(self) -> None:
        self.began = time.perf_counter()

    def due(self) -> bool:
        return self.done + 1 in self.when

    def step(self, model: SAM2Model) -> None:
        due = self.due()
        self.done += 1
        if due:
            self.seconds += time.perf_counter() - self.began
            self.points.append((self.done, self.judge(model)))
            self.start()

    def curve(self) -> Curve:
        return Curve(self.points, self.seconds / self.steps)


def report(ours: Sequence[Curve], references: Sequence[Curve], baseline: float, steps: int) -> str:
    lines = [
        f"# Learning against SAM2Train, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}, {torch.get_num_threads()} threads used, no GPU; "
        f"torch {torch.__version__}, Python {platform.python_version()}; {date.today().isoformat()}.",
        f"Nano network, {SIZE} px, clips of {CLIP_LENGTH} frames, {steps} steps, {len(ours)} seeds, mask "
        f"prompts. Mean J (lowest to highest seed), judged on the frames trained on; repeating the first "
        f"mask: {baseline:.3f}.",
        "",
        "| steps | ours | SAM2Train |",
        "|---:|---|---|",
    ]
    for place, (step, _) in enumerate(ours[0].points):
        cells = (_spread([curve.points[place][1] for curve in side]) for side in (ours, references))
        lines.append(f"| {step} | {' | '.join(cells)} |")
    times = [statistics.median(curve.seconds_a_step for curve in side) for side in (ours, references)]
    ratio = statistics.median(a.seconds_a_step / b.seconds_a_step for a, b in zip(ours, references))
    lines.append(f"| seconds a step (median) | {times[0]:.3f} | {times[1]:.3f} |")
    ends = [statistics.mean(curve.points[-1][1] for curve in side) for side in (ours, references)]
    lines += [
        "",
        f"Ours minus SAM2Train after {steps} steps: {ends[0] - ends[1]:+.3f} J. "
        f"Time ratio, pair by pair: {ratio:.2f}.",
        "",
        in_short(f"J {ends[0]:.3f} after {steps} steps, SAM2Train {ends[1]:.3f}"),
    ]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=40, help="of the video, from its start")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    record = replace(load_records("auto", options.data)[0], frame_range=(0, options.frames))
    prompts = PromptGenerator(["mask"])
    judged: tuple[VideoRecord, int, PromptGenerator, int] = (record, SIZE, prompts, 0)
    baseline = hold_first_mask(*judged).mean.values["J"]
    ours, references = [], []
    for seed in range(options.seeds):
        config = configuration(seed, options.steps)
        spec = clip_spec(config.dataset, seed, config.max_objects, [record])
        clips = [make_clip([record], SampleKey(0, index), spec) for index in range(options.steps)]
        sides = [(train_ours, ours), (train_reference, references)]
        for train, curves in sides if seed % 2 == 0 else sides[::-1]:
            curves.append(train(config, clips, lambda model: evaluate_video(model, *judged).mean.values["J"]))
            print(f"seed {seed} {train.__name__}: {curves[-1]}", flush=True)
    text = report(ours, references, baseline, options.steps)
    write_record(text, options.out)


if __name__ == "__main__":
    main()
