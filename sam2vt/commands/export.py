"""`sam2vt export`: a checkpoint for stock SAM 2."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "checkpoint", help="a run's folder, a training checkpoint, or weights beside their YAML; path or URI"
    )
    parser.add_argument("out", help="the file to write, such as tuned.pt")
    parser.add_argument("--base", help="where the weights that the training started from are now, if moved")


def run(options: argparse.Namespace) -> None:
    """Write the weights and the network's YAML, and print how SAM 2 loads them."""
    from sam2vt.core.model.export import export_checkpoint
    from sam2vt.core.prediction.weights import find_weights

    checkpoint = find_weights(options.checkpoint).path
    print_export(options.out, export_checkpoint(checkpoint, options.out, base=options.base))


def print_export(out: str, yaml: Path) -> None:
    """Print where weights and YAML are, and the call by which SAM 2 loads them."""
    yaml = yaml.resolve()
    print(f"weights: {out}\nnetwork: {yaml}")
    print(f'SAM 2 loads them: build_sam2_video_predictor("/{yaml}", "{Path(out).resolve()}")')
    print("(The second slash is Hydra's sign for a path from the root.)")
