"""`sam2vt export`: a checkpoint for stock SAM 2, or for transformers."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "checkpoint", help="a run's folder, a training checkpoint, or weights beside their YAML; path or URI"
    )
    parser.add_argument("out", help="the file to write, such as tuned.pt; with --to hf a folder")
    parser.add_argument(
        "--to",
        choices=("sam2", "hf"),
        default="sam2",
        help="for SAM 2 itself, or as a folder for transformers' Sam2VideoModel; default: sam2",
    )
    parser.add_argument("--base", help="where the weights that the training started from are now, if moved")


def run(options: argparse.Namespace) -> None:
    """Write the weights and their network, and print how they are loaded."""
    from sam2vt.core.model.export import export_checkpoint, export_to_transformers
    from sam2vt.core.prediction.weights import find_weights

    place = find_weights(options.checkpoint)
    if options.to == "hf":
        folder = export_to_transformers(place.path, options.out, base=options.base, score=place.score)
        print(f"folder: {folder}")
        print(f'transformers loads it: Sam2VideoModel.from_pretrained("{folder.resolve()}")')
    else:
        print_export(options.out, export_checkpoint(place.path, options.out, base=options.base))


def print_export(out: str, yaml: Path) -> None:
    """Print where weights and YAML are, and the call by which SAM 2 loads them."""
    yaml = yaml.resolve()
    print(f"weights: {out}\nnetwork: {yaml}")
    print(f'SAM 2 loads them: build_sam2_video_predictor("/{yaml}", "{Path(out).resolve()}")')
    print("(The second slash is Hydra's sign for a path from the root.)")
