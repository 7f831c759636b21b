"""Provide the public datasets and the loader, as thin layers over clips, prompts and formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from functools import cached_property, partial
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler

from sam2vt.config import DatasetConfig, ValDatasetConfig
from sam2vt.configuration.mixture import members
from sam2vt.configuration.reading import checked, untuple
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import make_clip, warn_short_videos
from sam2vt.core.data.clips.prompts import PromptGenerator, normalise_prompt_types
from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.data.clips.spec import DRAWN_AS_CONFIGURED, ClipSpec
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.coco import in_order, list_videos
from sam2vt.core.data.formats.coco_json import JsonObject, find_json, group_by_image, read_json
from sam2vt.core.data.formats.layout import ReadOptions
from sam2vt.core.data.opening import open_records
from sam2vt.core.data.records.mixture import Mixture
from sam2vt.core.data.records.table import RecordsByRow
from sam2vt.core.data.workers import init_worker
from sam2vt.core.types import Clip, SampleKey, VideoRecord
from sam2vt.errors import ConfigError, DataError

__all__ = [
    "COCODataset",
    "ClipDataset",
    "PromptGenerator",
    "VideoDataset",
    "clip_spec",
    "collate_fn",
    "create_dataloader",
    "dataset_from_config",
]


class ClipDataset(Dataset[Clip]):
    """Clips drawn from a list of videos; `len` is the number of videos.

    `dataset[i]` draws a clip of video i in the epoch of `set_epoch` (0 at first); `dataset[SampleKey]` draws
    the clip of that key. A draw is a pure function of (seed, epoch, index). Logs a warning for a video that
    is shorter than a clip. Raises DataError if there is no video.
    """

    def __init__(self, records: Sequence[VideoRecord], spec: ClipSpec) -> None:
        if not records:
            raise DataError("a dataset needs at least one video, got none; check data_path and the split")
        self.records = records if isinstance(records, RecordsByRow) else list(records)
        self.spec = spec
        self.epoch = 0
        self.quarantine = False  # a clip that cannot be made comes blank, saying so, instead of a DataError
        warn_short_videos(self.records, spec)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the clips, in pixels."""
        return self.spec.image_size

    @property
    def video_clip_length(self) -> int:
        """T, the number of frames of a clip."""
        return self.spec.clip_length

    @property
    def prompt_generator(self) -> PromptGenerator:
        """The generator of the clips' prompts."""
        return self.spec.prompts

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of `dataset[i]`; the keys of a `ClipSampler` contain their own epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int | SampleKey) -> Clip:
        if not isinstance(index, SampleKey):
            if not -len(self) <= index < len(self):
                raise IndexError(f"video {index} of a dataset of {len(self)} videos")
            index = SampleKey(self.epoch, index % len(self))
        return make_clip(self.records, index, self.spec, self.quarantine)


class VideoDataset(ClipDataset):
    """Folders of frames or video files, with masks.

    `number_of_points` is the inclusive range of positive points drawn per object. Further keywords are those
    of `ClipSpec`. `records` replaces the videos at `data_path`, for instance by one side of a split.
    """

    def __init__(
        self,
        data_path: str | Path,
        image_size: tuple[int, int] = (512, 512),
        video_clip_length: int = 5,
        prompt_types: Sequence[str] | None = None,
        number_of_points: tuple[int, int] = (1, 3),
        include_center: bool = False,
        num_of_neg_points: int = 0,
        *,
        records: Sequence[VideoRecord] | None = None,
        **clip_options: Any,
    ) -> None:
        generator = PromptGenerator(prompt_types, number_of_points, include_center, num_of_neg_points)
        spec = ClipSpec(image_size, video_clip_length, generator, **clip_options)
        super().__init__(load_records("video", data_path) if records is None else records, spec)
        self.data_path = Path(data_path)


class COCODataset(ClipDataset):
    """A COCO video JSON. Objects are identified by track ids, or as `identity` says.

    Further keywords as for `VideoDataset`. File names are relative to `image_root`; files elsewhere are
    refused without `allow_absolute_paths`. The JSON is read again at the first access to one of the four
    attributes below.
    """

    def __init__(
        self,
        coco_json_path: str | Path,
        image_size: tuple[int, int] = (512, 512),
        video_clip_length: int = 5,
        prompt_types: Sequence[str] | None = None,
        num_of_pos_points: int = 1,
        include_center: bool = False,
        num_of_neg_points: int = 0,
        *,
        identity: str = "error",
        image_root: str | None = None,
        allow_absolute_paths: bool = False,
        records: Sequence[VideoRecord] | None = None,
        **clip_options: Any,
    ) -> None:
        generator = PromptGenerator(prompt_types, num_of_pos_points, include_center, num_of_neg_points)
        spec = ClipSpec(image_size, video_clip_length, generator, **clip_options)
        if records is None:
            read: dict[str, Any] = {"identity": identity, "image_root": image_root}
            read["allow_absolute_paths"] = allow_absolute_paths
            records = load_records("coco", coco_json_path, **read)
        super().__init__(records, spec)
        self.coco_json_path = Path(coco_json_path)

    @cached_property
    def _json_path(self) -> str:
        path = find_json(str(self.coco_json_path))
        if path is None and self.records:  # it is in the path's only folder
            path = find_json(self.records[0].source)
        if path is None:
            raise DataError(f"{self.coco_json_path}: is no JSON file, and no folder that holds one")
        return path

    @cached_property
    def _json(self) -> dict[str, Any]:
        return read_json(self._json_path)

    @property
    def images(self) -> list[JsonObject]:
        """The images of the JSON, unchanged."""
        return self._json["images"]

    @property
    def annotations(self) -> list[JsonObject]:
        """The annotations of the JSON, unchanged."""
        return self._json["annotations"]

    @cached_property
    def video_to_images(self) -> dict[int | str, list[JsonObject]]:
        """Return video id -> its images in order."""
        path = self._json_path
        videos = list_videos(path, self.images).items()
        return {video: in_order(images, f"{path}: video {video}") for video, images in videos}

    @cached_property
    def image_id_to_annotations(self) -> dict[Any, list[JsonObject]]:
        """Return image id -> its annotations."""
        return group_by_image(self._json_path, self.images, self.annotations, ReadOptions())


def dataset_from_config(
    cfg: DatasetConfig,
    *,
    records: Sequence[VideoRecord] | None = None,
    seed: int = 0,
    max_objects: int | None = None,
) -> ClipDataset:
    """Return the `VideoDataset` or `COCODataset` of a configuration, over `records` where they are given.

    `num_of_pos_points: n` means 1 to n points for a `VideoDataset`, exactly n for a `COCODataset` and for
    validation.
    """
    if records is None:
        records = open_records(cfg)
    if not records:
        raise DataError(f"there is no video in data_path {cfg.data_path!r}, or on this side of its split")
    # The sets of a mixture differ in their settings, so no single dataset class describes it.
    if isinstance(records, Mixture):
        return ClipDataset(records, _mixed_spec(cfg, records, seed, max_objects))
    same = (*DRAWN_AS_CONFIGURED, "augment", "video_clip_length", "prompt_types", "num_of_neg_points")
    options: dict[str, Any] = {name: getattr(cfg, name) for name in same}
    options |= {"records": records, "seed": seed, "max_objects": max_objects}
    options["include_center"] = cfg.include_center_point
    path = cfg.data_path or records[0].source
    if _is_coco(cfg.dataset_type, records):
        return COCODataset(path, num_of_pos_points=cfg.num_of_pos_points, **options)
    least = cfg.num_of_pos_points if isinstance(cfg, ValDatasetConfig) else 1
    return VideoDataset(path, number_of_points=(least, cfg.num_of_pos_points), **options)


def _mixed_spec(cfg: DatasetConfig, mixture: Mixture, seed: int, max_objects: int | None) -> ClipSpec:
    """Return one spec per set; validation sees the sets of training's mixture by its own settings."""
    own = [member.settings for member in members(cfg)] or [cfg] * len(mixture.parts)
    sets = tuple(clip_spec(each, seed, max_objects, part) for each, part in zip(own, mixture.parts))
    return replace(sets[0], sets=sets)


def object_names(
    settings: DatasetConfig, records: Sequence[VideoRecord], keys: Iterable[SampleKey], clips: Sequence[Clip]
) -> dict[str, dict[int, Any]]:
    """Return the names of the clips' objects by video, where every object is of its own video.

    The clips are among those that `keys` draw.
    """
    if settings.augment.mosaic_probability or settings.augment.paste_probability:
        return {}
    drawn = {each.video_id: each for each in (records[key.index % len(records)] for key in keys)}
    names: dict[str, dict[int, Any]] = {}
    for clip in clips:
        if record := drawn.get(clip["video_id"]):
            names.setdefault(record.video_id, {}).update(record.names_of(clip["object_ids"]))
    return names


def clip_spec(
    cfg: DatasetConfig, seed: int, max_objects: int | None, records: Sequence[VideoRecord]
) -> ClipSpec:
    """Return the clip specification of the configuration's dataset, for other engines."""
    return dataset_from_config(cfg, records=records, seed=seed, max_objects=max_objects).spec


def _is_coco(dataset_type: str, records: Sequence[VideoRecord]) -> bool:
    """Return whether the dataset is COCO; with "auto" the records tell, which are all of one kind."""
    if dataset_type != "auto":
        return dataset_type == "coco"
    first = islice(records, 16)  # some of a table's videos may have no mask
    return any(record.from_coco for record in first)


class _ShareSampler(ClipSampler, DistributedSampler):  # type: ignore[misc]
    """One rank's share; Lightning divides the clips of any other sampler among the ranks."""


_DRAW_OPTIONS = ("seed", "max_objects", "records")
_SAMPLER_OPTIONS = ("rank", "world_size", "epoch")
# Parameters of torch's DataLoader that are set here.
_SET_HERE = ("dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "collate_fn")


def create_dataloader(
    dataset_type: str,
    dataset_path: str | Path,
    prompt_types: Sequence[str] | None,
    batch_size: int = 1,
    num_workers: int = 4,
    shuffle: bool = True,
    num_of_pos_points: int = 1,
    include_center: bool = False,
    num_of_neg_points: int = 0,
    **kwargs: Any,
) -> DataLoader[Any]:
    """Return a loader of a dataset's batches; any number of workers gives the same batches.

    Further keywords: the settings of `DatasetConfig` by their names; records, seed, max_objects; rank,
    world_size and epoch of the `ClipSampler`; and those of torch's DataLoader. Each pass over the loader is a
    new epoch with its own clips, unless `epoch` or `loader.sampler.set_epoch` fixes one, as validation needs.
    Lightning does not change a loader with a `world_size`. With shuffle, clips at the end of an epoch that do
    not fill a batch are left out; without it, the last batch may be smaller. Raises ConfigError for unknown
    keywords, and for values that `DatasetConfig` does not allow.
    """
    taken = _config_options()
    options, draw, sampling = (
        {name: kwargs.pop(name) for name in names if name in kwargs}
        for names in (taken, _DRAW_OPTIONS, _SAMPLER_OPTIONS)
    )
    loader_options = [name for name in signature(DataLoader).parameters if name not in _SET_HERE]
    unknown = [name for name in kwargs if name not in loader_options]
    if unknown:
        allowed = [*taken, *_DRAW_OPTIONS, *_SAMPLER_OPTIONS, *loader_options]
        guess = [f", did you mean {each}?" for each in get_close_matches(unknown[0], allowed, n=1)]
        text = f"unknown keyword {', '.join(unknown)}{''.join(guess)}"
        raise ConfigError(f"{text}; allowed are {', '.join(allowed)}")
    cfg = DatasetConfig(
        dataset_type=dataset_type,
        data_path=str(dataset_path),
        batch_size=batch_size,
        num_workers=num_workers,
        shuffle=shuffle,
        prompt_types=list(normalise_prompt_types(prompt_types)),
        num_of_pos_points=num_of_pos_points,
        num_of_neg_points=num_of_neg_points,
        include_center_point=include_center,
        **options,
    )
    checked(DatasetConfig, untuple(asdict(cfg)), "")
    dataset = dataset_from_config(cfg, **draw)
    # Without shuffle nothing is left out, so clips need not come in whole batches.
    sampling["batch_size"] = batch_size if shuffle else 1
    kind = ClipSampler if sampling.get("world_size", 1) == 1 else _ShareSampler
    sampler = kind(len(dataset), cfg.clips_per_video, dataset.spec.seed, shuffle, **sampling)
    # A function of the user runs after ours.
    kwargs["worker_init_fn"] = partial(init_worker, then=kwargs.get("worker_init_fn"))
    return DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate_fn, **kwargs
    )


def _config_options() -> list[str]:
    """Return the settings of a dataset that `create_dataloader` takes under their own names, by keyword."""
    named = {*signature(create_dataloader).parameters, "data_path", "include_center_point"}
    of_a_run = {"datasets", "feature_cache"}  # a mixture and a cache belong to a whole configuration
    return [each.name for each in fields(DatasetConfig) if each.name not in named | of_a_run]
