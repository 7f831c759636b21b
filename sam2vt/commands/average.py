"""`sam2vt average`: the mean of several checkpoints' weights, or of a tuned one and what it started from."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from sam2vt.commands.export import print_export
from sam2vt.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("checkpoints", nargs="+", help="runs' folders, checkpoints or exports of one network")
    parser.add_argument("--out", required=True, help="the file to write, such as averaged.pt")
    parser.add_argument(
        "--weights", type=float, nargs="+", help="each checkpoint's share, such as 0.7 0.3; default: equal"
    )
    parser.add_argument(
        "--with-base",
        type=float,
        help="share of the weights that a single checkpoint's training started from",
    )
    parser.add_argument("--base", help="where the weights that the training started from are now, if moved")


def run(options: argparse.Namespace) -> None:
    """Write the mean as an export, print what it is made of and how SAM 2 loads it."""
    given, out, share = options.checkpoints, options.out, options.with_base
    if share is not None:
        _check_share(options)
        from sam2vt.core.prediction.averaging import mix_with_start

        yaml = mix_with_start(given[0], out, share, base=options.base)
        parts = [(given[0], 1 - share), ("what its training started from", share)]
    else:
        shares = _shares(given, options.weights)
        from sam2vt.core.prediction.averaging import average_checkpoints

        yaml = average_checkpoints(given, out, shares, base=options.base)
        parts = list(zip(given, shares))
    for name, each in parts:
        print(f"{each:.3f} of {name}")
    print_export(out, yaml)


def _check_share(options: argparse.Namespace) -> None:
    share, number = options.with_base, len(options.checkpoints)
    if not 0 < share < 1:
        raise ConfigError(f"--with-base {share:g}: must be above 0 and below 1, such as 0.5")
    if options.weights is not None:
        raise ConfigError(
            f"--with-base {share:g} with --weights: one checkpoint has no weights; leave them out"
        )
    if number > 1:
        raise ConfigError(
            f"--with-base {share:g}: takes one checkpoint, got {number}; mix each with its start, then "
            f"average the results"
        )


def _shares(checkpoints: Sequence[str], weights: Sequence[float] | None) -> Sequence[float]:
    """Return the share of each checkpoint. Raises ConfigError for weights that are none."""
    number = len(checkpoints)
    if number < 2:
        raise ConfigError(
            f"{checkpoints[0]}: one checkpoint has no average; name two or more, or give --with-base 0.5"
        )
    twice = sorted({each for each in checkpoints if checkpoints.count(each) > 1})
    if twice:
        raise ConfigError(f"{twice[0]}: named more than once; give it a larger share with --weights instead")
    if weights is None:
        return [1 / number] * number
    shown = f"--weights {' '.join(f'{each:g}' for each in weights)}"
    if len(weights) != number:
        raise ConfigError(f"{shown}: must be one for each checkpoint, of which there are {number}")
    if not all(0 < each < 1 for each in weights):  # false for NaN
        raise ConfigError(f"{shown}: each must be above 0 and below 1")
    if not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ConfigError(f"{shown}: must sum to 1, they sum to {sum(weights):g}")
    return weights
