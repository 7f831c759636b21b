"""`sam2vt export`: a training checkpoint for stock SAM 2."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("checkpoint", help="a run's folder, or a training checkpoint; path or URI")
    parser.add_argument("out", help="the file to write, such as tuned.pt")
    parser.add_argument("--base", help="where the weights that the training started from are now, if moved")


def run(options: argparse.Namespace) -> None:
    """Write the weights and the network's YAML, and print how SAM 2 loads them."""
    from sam2vt.core.model.export import export_checkpoint
    from sam2vt.core.prediction.weights import find_weights

    checkpoint = find_weights(options.checkpoint).path
    yaml = Path(export_checkpoint(checkpoint, options.out, base=options.base)).resolve()
    print(f"weights: {options.out}\nnetwork: {yaml}")
    weights = Path(options.out).resolve()
    # Hydra takes a path that begins with two slashes as absolute.
    print(f'SAM 2 loads them: build_sam2_video_predictor("/{yaml}", "{weights}")')
