"""Average the weights of checkpoints of one network, or of one checkpoint and the weights it started from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sam2vt.core.model.build import network_differences
from sam2vt.core.model.checkpoints import BASE, read_checkpoint, trained_model, training_config
from sam2vt.core.model.export import Source, exporting, find_source
from sam2vt.core.prediction.weights import Place, find_start, find_weights, require_digest
from sam2vt.core.storage.fetching import checkpoint_sha256
from sam2vt.errors import CheckpointError

_MOST_DIFFERENCES = 3  # that a message names


def average_checkpoints(
    checkpoints: Sequence[str], out: str | Path, shares: Sequence[float], *, base: str | None = None
) -> Path:
    """Write the weighted mean of several checkpoints' weights as an export, and return its YAML's path.

    Each is what `find_weights` takes, and `shares` sum to 1. The network is that of the first; the others may
    have another image size. `base` is the new place of the weights that trainings started from, if they were
    moved. Raises CheckpointError for networks that differ, before weights are read, and for what
    `export_checkpoint` refuses.
    """
    places = [find_weights(each) for each in checkpoints]
    first = find_source(places[0].path, base=base, config=places[0].config)
    size = int(first.network.model.image_size)
    others = [find_source(each.path, base=base, config=each.config, image_size=size) for each in places[1:]]
    for other in others:
        _check_network(first, other)
    return _write(places, [first, *others], out, shares)


def mix_with_start(checkpoint: str, out: str | Path, share: float, *, base: str | None = None) -> Path:
    """Write the mean of a tuned checkpoint and of what its training started from; return the YAML's path.

    `share` is that of the start, which the checkpoint names; `base` is its new place, if it was moved.
    Raises CheckpointError for a checkpoint without a start, and for what `export_checkpoint` refuses.
    """
    place = find_weights(checkpoint)
    content = read_checkpoint(place.path, mapped=True)
    config = training_config(content)
    trained = None if config is None else trained_model(config, place.path)
    start = find_start(place.path, trained, content.get(BASE), base)
    tuned = find_source(place.path, base=base, config=config)
    # The same network, without an adapter: that is part of what trained.
    return _write([place, start], [tuned, Source(start.path, tuned.network)], out, [1 - share, share])


def _write(
    places: Sequence[Place], sources: Sequence[Source], out: str | Path, shares: Sequence[float]
) -> Path:
    with exporting(out, *(each.path for each in sources)) as write:
        for place in places:
            if place.sha256 is not None and "://" not in place.path:
                require_digest(place, checkpoint_sha256(place.path))
        write(_mean(sources, shares), sources[0].network)
    return Path(out).with_suffix(".yaml")


def _mean(sources: Sequence[Source], shares: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of the networks' tensors, with one network in memory at a time."""
    mean: dict[str, Tensor] = {}
    for source, share in zip(sources, shares):
        for name, value in source.read().state_dict().items():
            if name not in mean:
                mean[name] = value * share if value.is_floating_point() else value
            elif value.is_floating_point():
                mean[name].add_(value, alpha=share)
    return mean


def _check_network(first: Source, other: Source) -> None:
    """Raise CheckpointError, which names the differences, unless both are the same network."""
    different = network_differences(first.network, other.network)
    if different:
        more = f" and {len(different) - _MOST_DIFFERENCES} more" * (len(different) > _MOST_DIFFERENCES)
        raise CheckpointError(
            f"{first.path} and {other.path}: their networks differ, so that their weights have no mean: "
            f"{'; '.join(different[:_MOST_DIFFERENCES])}{more}. Name checkpoints of one network"
        )
