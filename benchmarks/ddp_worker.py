"""A training of `ddp_overhead.py`; Lightning starts it again for its second process.

Prints clips per second after the first steps. With `apart` it also prints the time of each part of a step
in the first process: the processes then wait for each other before they exchange gradients, so that both
show.

    python benchmarks/ddp_worker.py together|apart <settings as of sam2vt train>
"""

import json  # annotations stay objects here: DDP looks at those of its hook
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from ddp_overhead import SKIP
from lightning.pytorch.profilers import SimpleProfiler

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.core.training.loss_terms.entries import Counts, Entries
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.train import create_trainer

CLIPS = "clips/s"
COUNTS, WAITING, EXCHANGE = (
    "waiting for the other's number of entries, in the loss",
    "waiting for the other before the exchange",
    "exchanging gradients by gloo",
)


class Collectives(L.Callback):
    """Times steps, and if asked for what processes do together: waiting, then exchanging."""

    def __init__(self, profiler: SimpleProfiler, apart: bool) -> None:
        self.profiler, self.apart = profiler, apart
        self.spent: defaultdict[str, float] = defaultdict(float)  # seconds
        self.steps = 0
        self._began = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1 and self.apart:
            Entries.counts = self._timed(Entries.counts)  # type: ignore
            trainer.strategy.model.register_comm_hook(None, self._exchange)  # type: ignore

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == SKIP:
            self.spent.clear()
            self._began = time.perf_counter()
        self.spent["step"] = time.perf_counter() - self._began

    def _timed(self, counts: Callable[[Entries], Counts]) -> Callable[[Entries], Counts]:
        def timed(entries: Entries) -> Counts:
            began = time.perf_counter()
            found = counts(entries)
            self.spent[COUNTS] += time.perf_counter() - began
            return found

        return timed

    def _exchange(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        began = time.perf_counter()
        dist.barrier()
        alone = time.perf_counter()
        gradients = bucket.buffer().div_(dist.get_world_size())
        dist.all_reduce(gradients)
        self.spent[WAITING] += alone - began
        self.spent[EXCHANGE] += time.perf_counter() - alone
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(gradients)
        return done


def main() -> None:
    torch.set_num_threads(1)
    how, *overridden = sys.argv[1:]
    config = load_config(compose_config(overridden))
    L.seed_everything(config.seed, verbose=False)
    profiler = SimpleProfiler()
    collectives = Collectives(profiler, how == "apart")
    trainer = create_trainer(config, [collectives], profiler=profiler)
    trainer.fit(SAM2LightningModule(config), datamodule=SAM2LightningDataModule(config))
    if trainer.is_global_zero:
        found = parts(collectives)
        print("found", json.dumps({CLIPS: trainer.world_size / found["step"], "parts": found}))


def parts(collectives: Collectives) -> dict[str, float]:
    """Seconds a step."""
    spent = defaultdict(float, collectives.spent)
    for action, each in collectives.profiler.recorded_durations.items():
        spent[action.rpartition(".")[2]] += sum(each[SKIP:])
    found = {
        "step": spent["step"],
        "forward, with the search for what is unused, and loss": spent["training_step"] - spent[COUNTS],
        COUNTS: spent[COUNTS],
        "backward, with the exchange of what was used": spent["backward"] - spent[WAITING] - spent[EXCHANGE],
        WAITING: spent[WAITING],
        EXCHANGE: spent[EXCHANGE],
        "clipping, the check of all ranks, update": spent["optimizer_step"]
        - spent["training_step"]
        - spent["backward"],
    }
    rest = 2 * found["step"] - sum(found.values())
    return {name: value / (collectives.steps - SKIP) for name, value in {**found, "the rest": rest}.items()}


if __name__ == "__main__":
    main()
