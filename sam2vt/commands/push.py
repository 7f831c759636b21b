"""`sam2vt push`: an export for transformers, uploaded to the Hugging Face hub."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("folder", help="the folder that `sam2vt export --to hf` wrote")
    parser.add_argument("repository", help="owner/name on the hub; created if it is missing")
    parser.add_argument("--public", action="store_true", help="everybody may read it; default: private")
    parser.add_argument(
        "--yes", action="store_true", help="upload; without it, only print what would be uploaded"
    )


def run(options: argparse.Namespace) -> None:
    """Print what is uploaded, and upload it if that was asked for."""
    from sam2vt.core.model.hf.card import GAP
    from sam2vt.core.storage.hf_folder import CARD
    from sam2vt.core.storage.hub import files_of, upload

    files = files_of(options.folder, options.repository)
    for each in files:
        print(f"{each.stat().st_size / 1e6:10.2f} MB  {each.name}")
    print(f"to {options.repository}, {'public' if options.public else 'private'} if it is created now")
    card = next((each for each in files if each.name == CARD), None)
    if card is not None and GAP in card.read_text(encoding="utf-8"):
        print(f"{card}: has gaps that only you can fill: look for '{GAP}'")
    if options.yes:
        print(f"uploaded: {upload(options.folder, options.repository, public=options.public)}")
    else:
        print("nothing was uploaded; --yes uploads")
