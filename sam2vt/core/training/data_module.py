"""Give Lightning the data: training clips, and clips and whole videos to validate on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from sam2vt.config import Config, ValDatasetConfig
from sam2vt.configuration.loading import from_dict
from sam2vt.configuration.valdatasets import each_alone
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.data.dataset import ClipDataset, dataset_from_config
from sam2vt.core.data.opening import Records, RunRecords, open_run
from sam2vt.core.data.records.mixture import num_videos
from sam2vt.core.data.workers import init_worker, loader_timeout
from sam2vt.core.training.checkpoints.position import Position, ResumableSampler, batches_since_step
from sam2vt.core.training.feature_cache import cache_of, fill, videos_to_cache
from sam2vt.core.training.preflight import check_training
from sam2vt.core.training.ranks import RankBatches
from sam2vt.core.training.updates import UpdateLoader
from sam2vt.core.training.validation import WholeVideo
from sam2vt.core.types import Batch, Clip, SampleKey
from sam2vt.errors import SIGTERM_EXIT_CODE, ConfigError

if TYPE_CHECKING:
    from sam2vt.core.model.sam2 import SAM2Model

log = logging.getLogger(__name__)

# A run that stopped within an epoch can only be resumed in the same sequence of clips.
SAME_SEQUENCE = ("clips_per_step", "clips_per_epoch", "seed", "shuffle")


class SAM2LightningDataModule(L.LightningDataModule):
    """Training clips of this rank; validation clips and whole videos, divided among the ranks.

    `config` is a `Config` or a plain dict of one. The state is the run's position in the sequence of clips: a
    resumed run continues with exactly the clip after the last one trained on. It keeps Lightning from
    replacing the samplers. `records` are `RunRecords`, or (train, validation) records, that are already found
    and checked, for instance by the driver of a distributed run. Further validation sets that they lack are
    opened.
    """

    def __init__(
        self, config: Config | Mapping[str, Any], records: RunRecords | tuple[Records, Records] | None = None
    ) -> None:
        super().__init__()
        self.config = as_config(config)
        self._found = records
        self.train_records: Records = []
        self.val_records: Records = []
        self.train_dataset: ClipDataset | None = None
        self.val_dataset: Dataset | None = None
        self.further_sets: list[tuple[ValDatasetConfig, Dataset, Records]] = []  # of `valdatasets`
        self.rounds = 1  # batches of a rank that one step's clips are divided into
        self._start = Position(0, 0)
        self._seen_at_start = 0
        self._batches_at_start = 0

    def setup(self, stage: str | None = None) -> None:
        """Find the videos and divide them; a second call does nothing.

        Before a fit, raises ConfigError or DataError if `check_training` refuses them.
        """
        if self.train_dataset is not None:
            return
        if isinstance(self.trainer, L.Trainer):  # it would divide once more what each rank is given
            self.trainer._accelerator_connector.use_distributed_sampler = False
        config = self.config
        records = open_run(config, self._found)
        self.train_records, self.val_records, further = records
        counts = "".join(f", {num_videos(each)} of {name}" for name, each in further.items())
        numbers = map(num_videos, records[:2])
        log.info("%d videos to train on, %d to validate on%s", *numbers, counts)
        if stage == "fit" and not self._found:
            check_training(config, records, self._rank_and_world_size()[1])
        shared: dict[str, Any] = {"seed": config.seed, "max_objects": config.max_objects}
        self.val_dataset = dataset_from_config(config.valdataset, records=self.val_records, **shared)
        for name, only in each_alone(config).items():
            settings, found = only.valdataset, further[name]
            dataset = dataset_from_config(settings, records=found, **shared)
            self.further_sets.append((settings, dataset, found))
        self.train_dataset = dataset_from_config(config.dataset, records=self.train_records, **shared)
        self.train_dataset.quarantine = config.on_bad_sample == "quarantine"

    def use_features(self, model: SAM2Model) -> str:
        """Add missing features to the configured cache and train from it; return its folder.

        Each rank computes its share. Raises SystemExit on SIGTERM: there is nothing to save yet.
        """
        assert self.config.dataset.feature_cache is not None
        rank, world_size = self._rank_and_world_size()
        cache = cache_of(model, self.config.dataset.feature_cache)
        own = islice(videos_to_cache(self.train_records), rank, None, world_size)
        skip_damaged = self.config.on_bad_sample == "quarantine"
        fill(cache, model, own, skip_damaged=skip_damaged, between_frames=self._stop_if_asked)
        if self.trainer is not None:  # a rank may read what another one encodes
            self.trainer.strategy.barrier("feature cache")
        assert self.train_dataset is not None, "call setup() first"
        self.train_dataset.spec = self.train_dataset.spec.reading(cache)
        return cache.folder

    def _stop_if_asked(self) -> None:
        if self.trainer is not None and self.trainer.received_sigterm:
            raise SystemExit(SIGTERM_EXIT_CODE)

    def train_dataloader(self) -> Any:
        """Return the batches of clips, from the run's position on. Raises RuntimeError before `setup`."""
        self._require_setup()
        settings = self.config.dataset
        drawn = (len(self.train_records), settings.clips_per_video, self.config.seed, settings.shuffle)
        sampler = ClipSampler(*drawn, *self._rank_and_world_size(), batch_size=settings.batch_size)
        size = self._batches_per_update()
        options: dict[str, Any] = {}
        if settings.num_workers > 0:
            # The workers fill up the next update's batches while those of this one are trained on.
            ahead = max(2, -(-size // settings.num_workers))
            options = {"persistent_workers": True, "prefetch_factor": ahead}
        loader = _loader(
            self.train_dataset,
            settings.num_workers,
            batch_size=settings.batch_size,
            sampler=ResumableSampler(sampler, self._start_of_pass),
            collate_fn=collate_fn,
            drop_last=True,
            **options,
        )
        return loader if size == 1 else UpdateLoader(loader, size, self._batches_left)

    def val_dataloader(self) -> list[DataLoader]:
        """Return [batches of clips, whole videos] of this rank; None pads them to equal length.

        Further validation sets follow, each with two loaders as well. Raises RuntimeError before `setup`.
        """
        self._require_setup()
        own = (self.config.valdataset, self.val_dataset, self.val_records)
        return [loader for each in (own, *self.further_sets) for loader in self._loaders_of(*each)]

    def _loaders_of(
        self, settings: ValDatasetConfig, dataset: Dataset | None, records: Records
    ) -> list[DataLoader]:
        ranks, videos = self._rank_and_world_size(), range(len(records))
        clips = range(len(records) * settings.clips_per_video)
        return [
            _loader(
                dataset,
                settings.num_workers,
                batch_sampler=RankBatches(clips, settings.batch_size, *ranks, partial(SampleKey, 0)),
                collate_fn=_collate_or_none,
            ),
            DataLoader(
                records,  # type: ignore[arg-type]
                batch_sampler=RankBatches(videos, 1, *ranks),
                collate_fn=lambda records: WholeVideo(records[0]) if records else None,
            ),
        ]

    def _require_setup(self) -> None:
        if not self.train_records:
            raise RuntimeError(
                "SAM2LightningDataModule: the datasets are not read yet; call setup('fit') first"
            )

    def position(self, waiting: int = 0) -> Position:
        """Return the next clip to train on, counted over all ranks.

        The last `waiting` batches of each rank do not count as trained on.
        """
        return self._start.advanced(self._clips_trained(waiting), self.clips_per_epoch)

    def _start_of_pass(self) -> Position:
        """Return the run's position; by hand, without a Trainer, each pass is the next epoch."""
        if self.trainer is not None:
            return self.position()
        start, self._start = self._start, Position(self._start.epoch + 1, 0)
        return start

    @property
    def clips_per_epoch(self) -> float:
        """Number of clips per epoch that are trained on, over all ranks."""
        num_batches = getattr(self.trainer, "num_training_batches", float("inf"))
        return num_batches / self.rounds * self._clips_per_step()

    def state_dict(self) -> dict[str, Any]:
        """Return the position, `samples_seen` (clips trained on in the whole run), and their settings."""
        waiting = 0 if self.trainer is None else batches_since_step(self.trainer)
        position = self.position(waiting)
        return {
            "epoch": position.epoch,
            "clips": position.clips,
            "samples_seen": self._seen_at_start + self._clips_trained(waiting),
            "batches_seen": self._batches_processed() - waiting,
            "rounds": self.rounds,
            **self._sequence(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position. Raises ConfigError if the rest of its epoch would contain other clips."""
        own = self._sequence()
        changed = [name for name in SAME_SEQUENCE if own[name] != state_dict.get(name)]
        if state_dict["clips"] and changed:
            was = ", ".join(f"{name} was {state_dict.get(name)}, is {own[name]}" for name in changed)
            raise ConfigError(
                f"resume: the checkpoint is {state_dict['clips']} clips into epoch {state_dict['epoch']}, "
                f"but {was}. Go on with the same dataset, dataset.batch_size, dataset.clips_per_video, "
                f"dataset.shuffle, seed and number of processes, or from a checkpoint at an epoch's end"
            )
        # Lightning does not know that the sampler starts at the position.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
        self._start = Position(state_dict["epoch"], state_dict["clips"])
        self._seen_at_start = state_dict["samples_seen"]
        self._batches_at_start = state_dict["batches_seen"] // state_dict.get("rounds", 1) * self.rounds

    def _batches_per_update(self) -> int:
        # By hand, without a Trainer, nobody accumulates.
        return 1 if self.trainer is None else self.trainer.accumulate_grad_batches

    def _batches_left(self) -> float:
        """Return how many batches of this epoch each rank still trains on."""
        clips = self.clips_per_epoch - self.position().clips
        return clips * self.rounds / self._clips_per_step()

    def _sequence(self) -> dict[str, Any]:
        settings = self.config.dataset
        return {
            "clips_per_step": self._clips_per_step(),
            "clips_per_epoch": len(self.train_records) * settings.clips_per_video,
            "seed": self.config.seed,
            "shuffle": settings.shuffle,
        }

    def _clips_trained(self, waiting: int = 0) -> int:
        """Clips trained on since the start or the resume, over all ranks."""
        # max: Lightning restores its own counters later than this state, and they start at 0.
        batches = max(0, self._batches_processed() - self._batches_at_start - waiting)
        return batches // self.rounds * self._clips_per_step()

    def _batches_processed(self) -> int:
        """Batches of this rank whose update is done, in the whole run."""
        if self.trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]

    def _clips_per_step(self) -> int:
        return self.config.dataset.batch_size * self._rank_and_world_size()[1]

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def as_config(config: Config | Mapping[str, Any]) -> Config:
    """Return a configuration, given as such or as a plain dict, as in a checkpoint."""
    return config if isinstance(config, Config) else from_dict(config)


def _loader(dataset: Dataset | None, num_workers: int, **options: Any) -> DataLoader:
    assert dataset is not None, "call setup() first"
    on_gpu = torch.cuda.is_available()
    return DataLoader(
        dataset,
        num_workers=num_workers,
        worker_init_fn=init_worker,
        pin_memory=on_gpu,
        timeout=loader_timeout(num_workers),
        **options,
    )


def _collate_or_none(clips: Sequence[Clip]) -> Batch | None:
    return collate_fn(clips) if clips else None
