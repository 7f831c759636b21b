"""The effect of settings that change results on J and on the time of a step.

J comes from the nano network, trained from random weights on clips of one video and scored on the same
frames, as in `learning.py`. The time comes from the tiny network at 256 px; the settings take turns.

    python benchmarks/options.py DATA [--steps 200] [--seeds 3] [--repeats 5] [--out FILE.md]
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import torch
from learning import SIZE, configuration, train_ours
from machine import argument_parser, in_short, machine, versions, write_record
from step import Case, our_step, seconds

from sam2vt.config import ModelConfig
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.dataset import clip_spec
from sam2vt.core.data.formats import load_records
from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask
from sam2vt.core.types import SampleKey, VideoRecord
from sam2vt.settings import choices

COMPILABLE = choices(ModelConfig, "compile")

FROZEN = ["memory_attention", "memory_encoder", "mask_decoder"]
WARM_UP = 2  # what is compiled may be so again at its second step
NUM_POINTS = {"nano": 1024, "tiny": 4096}  # a sixteenth of the pixels


@dataclass(frozen=True)
class Option:
    """Settings against those of `against`, another option's name."""

    name: str
    against: str
    frozen: bool = False  # the image encoder
    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    points: bool = False


ALL, HELD = "as SAM 2, all trained", "as SAM 2, encoder frozen"
OPTIONS = (
    Option(ALL, ALL, model={"memory_dropout": 0.1}),
    Option("model.memory_dropout=0", ALL, model={"memory_dropout": 0.0}),
    Option("loss.resolution=low", ALL, model={"memory_dropout": 0.1}, loss={"resolution": "low"}),
    Option("loss.num_points, a 16th", ALL, model={"memory_dropout": 0.1}, points=True),
    Option(
        "model.compile, all parts",
        ALL,
        model={"memory_dropout": 0.1, "compile": list(COMPILABLE), "pad_memory": True},
    ),
    Option(HELD, HELD, True, model={"memory_dropout": 0.1}),
    Option("model.encoder_precision=bf16", HELD, True, {"memory_dropout": 0.1, "encoder_precision": "bf16"}),
)


def loss_settings(option: Option, network: str) -> dict[str, Any]:
    return {**option.loss, **({"num_points": NUM_POINTS[network]} if option.points else {})}


def scores(record: VideoRecord, steps: int, seeds: int) -> dict[str, list[float]]:
    """J of each option and seed, after so many steps."""
    judged = (record, SIZE, PromptGenerator(["mask"]), 0)
    found: dict[str, list[float]] = {option.name: [] for option in OPTIONS}
    for seed in range(seeds):
        for option in OPTIONS:
            config = configuration(seed, steps)
            config.model.trainable_modules = FROZEN if option.frozen else ["*"]
            for section, settings in [
                (config.model, option.model),
                (config.loss, loss_settings(option, "nano")),
            ]:
                for name, value in settings.items():
                    setattr(section, name, value)
            spec = clip_spec(config.dataset, seed, config.max_objects, [record])
            clips = [make_clip([record], SampleKey(0, index), spec) for index in range(steps)]
            judge = lambda model: evaluate_video(model, *judged).mean.values["J"]  # noqa: E731
            curve = train_ours(config, clips, judge, when={steps})
            found[option.name].append(curve.points[-1][1])
            print(f"seed {seed}, {option.name}: J {curve.points[-1][1]:.3f}", flush=True)
    return found


def times(repeats: int) -> dict[str, list[float]]:
    """Seconds of each turn's step."""
    made = {}
    for option in OPTIONS:
        case = Case("tiny", 256, "memory and decoder" if option.frozen else "all")
        made[option.name] = our_step(case, "cpu", None, option.model, loss_settings(option, "tiny"))
        for _ in range(WARM_UP):
            made[option.name]()
    found: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(repeats):
        for name in list(made)[:: 1 if turn % 2 else -1]:
            found[name].append(seconds(made[name], "cpu"))
    return found


def row(option: Option, of_j: dict[str, list[float]], of_time: dict[str, list[float]]) -> str:
    values, others = of_j[option.name], of_j[option.against]
    spread = f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    change = f"{statistics.median(values) - statistics.median(others):+.3f}"
    return f"| {option.name} | {spread} | {change} | {ratio(option, of_time):.2f} |"


def ratio(option: Option, of_time: dict[str, list[float]]) -> float:
    return statistics.median(a / b for a, b in zip(of_time[option.name], of_time[option.against]))


def overlap(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether their ranges have a value in common."""
    return min(values) <= max(others) and min(others) <= max(values)


def report(
    of_j: dict[str, list[float]], of_time: dict[str, list[float]], baseline: float, options: Any
) -> Sequence[str]:
    changed = [option for option in OPTIONS if option.name != option.against]
    middle = {name: statistics.median(values) for name, values in of_j.items()}
    changes = [middle[option.name] - middle[option.against] for option in changed]
    ratios = [ratio(option, of_time) for option in changed]
    apart = [option.name for option in changed if not overlap(of_j[option.name], of_j[option.against])]
    seeds = f"beyond the spread of seeds: {', '.join(apart)}" if apart else "within the spread of seeds"
    return (
        f"# Settings that change the numbers, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}, {torch.get_num_threads()} threads; {date.today().isoformat()}.",
        f"J: nano network, {SIZE} px, {options.steps} steps, median of {options.seeds} seeds (lowest to "
        f"highest: from random weights a seed may not start to learn in this time, with any setting); "
        f"repeating the first mask: {baseline:.3f}. Time: tiny network, 256 px, one object, "
        f"4 frames, mask prompt, medians of {options.repeats} steps a setting, which take turns.",
        "",
        "| setting | J | change | time |",
        "|---|---|---:|---:|",
        *(row(option, of_j, of_time) for option in OPTIONS),
        "",
        in_short(
            f"J changes by {min(changes):+.3f} to {max(changes):+.3f}, {seeds}; a step takes "
            f"{min(ratios):.2f} to {max(ratios):.2f} x the time"
        ),
    )


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=40, help="of the video, from its start")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    record = replace(load_records("auto", options.data)[0], frame_range=(0, options.frames))
    baseline = hold_first_mask(record, SIZE, PromptGenerator(["mask"]), 0).mean.values["J"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the nano network's operations are too small for more
    of_j = scores(record, options.steps, options.seeds)
    torch.set_num_threads(threads)
    torch.compiler.reset()  # what was compiled for nano would be made to fit both
    of_time = times(options.repeats)
    text = "\n".join(report(of_j, of_time, baseline, options))
    write_record(text, options.out)


if __name__ == "__main__":
    main()
