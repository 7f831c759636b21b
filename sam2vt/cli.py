"""The command line: a table of verbs; `sam2vt <verb> --help` lists a verb's arguments."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from sam2vt.errors import ConfigError, exit_on_error

# Each verb with its line of help. It is the module of its name in `sam2vt.commands`, which is imported only
# when the verb is run: `sam2vt --help` loads nothing heavy.
VERBS = {
    "train": "train from overrides such as experiment=overfit dataset.data_path=videos; --cfg job prints",
    "evaluate": "J and F of a checkpoint on whole videos, with overlays",
    "predict": "masks on new videos from clicks, boxes, masks or detections",
    "export": "write a checkpoint that stock SAM 2 loads, and its YAML",
    "index": "write a dataset's records as a table, for large datasets",
    "validate": "summarise a dataset and list everything that is wrong with it",
    "convert": "write a dataset in another layout, for other tools",
    "preview": "write a picture of clips as training samples and augments them",
    "estimate": "estimate the memory that a training needs, before it runs",
    "cache-features": "encode the training videos once, for a frozen encoder",
    "pack": "write a dataset as Parquet shards, for object storage",
    "sample-data": "write a small dataset of generated videos",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb.

    Exit codes: 0 done, 1 validate or pack --verify found faults or estimate more than its limit, 2 bad input,
    3 training failed, 130 Ctrl-C, 143 SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with exit_on_error():
        _check_text(given)
    parser = _parser()
    verb = parser.parse_args(given[:1]).verb
    if verb not in VERBS:
        close = get_close_matches(verb, VERBS, n=1)
        parser.error(f"{verb}: no such verb{f', did you mean {close[0]}?' if close else ''}")
    module, rest = _module_of(verb), given[1:]
    if not hasattr(module, "add_arguments"):  # train: the rest is Hydra's, its options too
        return module.run(rest)
    options = _parse(parser_of(verb), rest)
    from sam2vt.train import setup_logging

    setup_logging()
    with exit_on_error():
        module.run(options)


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb's arguments."""
    parser = argparse.ArgumentParser(f"sam2vt {verb}", description=VERBS[verb])
    _module_of(verb).add_arguments(parser)
    return parser


def _module_of(verb: str) -> Any:
    return importlib.import_module(f"sam2vt.commands.{verb.replace('-', '_')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "sam2vt",
        usage="sam2vt [-h] VERB ...",
        description="Fine-tune SAM 2 for video object segmentation.",
        epilog="\n".join(["verbs:", *(f"  {verb:<16}{text}" for verb, text in VERBS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", help="one of the verbs below; sam2vt VERB --help")
    return parser


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides after an option, which argparse does not take together
        options.overrides = [*options.overrides, *rest]
    return options


def _check_text(arguments: Sequence[str]) -> None:
    for each in arguments:
        shown = each.encode("utf-8", "backslashreplace").decode()
        if shown != each:
            raise ConfigError(
                f"{shown}: is not UTF-8 text; allowed are names in UTF-8: rename it, or name another"
            )


if __name__ == "__main__":
    main()
