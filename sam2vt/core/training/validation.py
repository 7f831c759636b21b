"""Collect the rows of a validation on each rank, and their mean over all ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import lightning as L

from sam2vt.config import Config
from sam2vt.configuration.valdatasets import naming
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.identity import PRESENCE, SWAP_RATE, presence_accuracy, swap_rate
from sam2vt.core.evaluation.jf import BY_OBJECT, METRICS, MONITOR, ObjectScore, mean_score
from sam2vt.core.evaluation.tables import HELD
from sam2vt.core.training.loss_terms.terms import TERMS
from sam2vt.core.training.preflight import unscorable
from sam2vt.core.training.ranks import gather_objects
from sam2vt.core.types import VideoRecord
from sam2vt.logs import digits

BASELINE = f"val/J{HELD}"  # J of repeating the first mask


class WholeVideo:
    """A record on its way through a data loader.

    Lightning moves batches to the device field by field and would copy a dataclass; it does not touch this.
    """

    def __init__(self, record: VideoRecord) -> None:
        self.record = record


class LossRow(NamedTuple):
    """The loss components of a validation batch, without the total."""

    batch: int  # number of the batch over all ranks
    counts: dict[str, int]  # what the components' means divided by, see entries.count_entries
    components: dict[str, float]


@dataclass
class ValidationRows:
    """Rows of one validation: of this rank while it runs, of all ranks after `gathered`."""

    losses: list[LossRow] = field(default_factory=list)
    scores: list[ObjectScore] = field(default_factory=list)
    hold_first: list[ObjectScore] = field(default_factory=list)
    num_videos: int = 0  # whole ones

    def gathered(self) -> ValidationRows:
        """Return the rows of all ranks in the order of a single process; every rank must take part."""
        parts = gather_objects(self)
        return ValidationRows(
            losses=sorted((row for part in parts for row in part.losses), key=lambda row: row.batch),
            scores=sorted((row for part in parts for row in part.scores), key=BY_OBJECT),
            hold_first=sorted((row for part in parts for row in part.hold_first), key=BY_OBJECT),
            num_videos=sum(part.num_videos for part in parts),
        )

    def mean_losses(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return each component's mean over all batches, as if they were one batch.

        The weight of a batch is the divisor of its own means. `total` is the sum with these weights. {} if no
        entry counted.
        """
        if not any(row.counts["valid"] for row in self.losses):
            return {}
        names = sorted({name for row in self.losses for name in row.components})
        means = {name: self._mean(name) for name in names}
        return {**means, "total": sum(weights[name] * mean for name, mean in means.items())}

    def _mean(self, component: str) -> float:
        count = TERMS[component].divides_by
        total = sum(row.counts[count] for row in self.losses)
        parts = sum(row.counts[count] * row.components.get(component, 0.0) for row in self.losses)
        return parts / max(total, 1)


@dataclass
class ValidationSet:
    """A validation set of a run: the rows of the validation that runs, and the scores of the last one."""

    name: str  # the key in `valdatasets`, "" for `valdataset`
    config: Config  # with this set as its `valdataset`
    rows: ValidationRows = field(default_factory=ValidationRows)
    scores: list[ObjectScore] = field(default_factory=list)
    hold_first: list[ObjectScore] | None = None  # of the baseline, which never change

    @property
    def prefix(self) -> str:
        """What the names of its metrics begin with."""
        return f"val/{self.name}/" if self.name else "val/"

    @property
    def prompts(self) -> PromptGenerator:
        """Generator of prompts for its whole videos."""
        settings = self.config.valdataset
        points = (settings.num_of_pos_points, settings.include_center_point, settings.num_of_neg_points)
        return PromptGenerator(settings.prompt_types, *points)

    def take_rows(self) -> ValidationRows:
        """Return the rows of all ranks and begin new ones; every rank must take part."""
        rows, self.rows = self.rows.gathered(), ValidationRows()
        return rows

    def finish(self, rows: ValidationRows, weights: Mapping[str, float]) -> dict[str, float]:
        """Keep the scores of a whole validation and return its metrics, by their names in logs.

        Raises DataError if no object could be scored.
        """
        self.scores = rows.scores
        means = rows.mean_losses(weights)
        values = {"loss" if name == "total" else name: value for name, value in means.items()}
        if rows.num_videos:  # a loader of the user's own may have clips alone
            if self.hold_first is None:
                self.hold_first = rows.hold_first
            mean = mean_score(rows.scores)
            if not mean.num_objects:
                with naming(self.name):
                    what = f"none of {len(rows.scores)} objects has a frame to be scored on"
                    raise unscorable(self.config, what)
            values |= mean.values
            held = mean_score(self.hold_first).values
            values |= {f"{name}{HELD}": held[name] for name in METRICS}
            rates = {
                SWAP_RATE: swap_rate(each.swaps for each in rows.scores),
                PRESENCE: presence_accuracy(each.presence for each in rows.scores),
            }
            values |= {name: rate for name, rate in rates.items() if not math.isnan(rate)}
        return {f"{self.prefix}{name}": value for name, value in values.items()}


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the metrics `val/*` of the last validation, from Lightning."""
    return {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}


def validation_line(trainer: L.Trainer) -> str:
    """Return the last validation as a line of the log: loss, scores, baseline, and J&F of further sets."""
    metrics = validation_metrics(trainer)
    further = [name for name in metrics if name.endswith("/J&F") and name != MONITOR]
    shown = ("val/loss", *(f"val/{name}" for name in METRICS), BASELINE, f"val/{SWAP_RATE}", *further)
    values = ", ".join(f"{name} {digits(metrics[name])}" for name in shown if name in metrics)
    return f"step {trainer.global_step}: {values}"
