"""Run the command line: a table of verbs, each with its heading, help and example."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

from sam2vt import __version__
from sam2vt.core.training.slurm import check_ranks
from sam2vt.errors import ConfigError, exit_on_error


class Verb(NamedTuple):
    """A verb: its heading, its line of help, and an example."""

    group: str
    text: str
    example: str


# It is the module of its name in `sam2vt.commands`, which is imported only when the verb is run: `sam2vt
# --help` loads nothing heavy. In the order in which help lists them.
VERBS = {
    "validate": Verb("data", "summarise a dataset, list all that is wrong with it", "my_videos"),
    "preview": Verb("data", "a picture of clips as training samples and augments them", "my_videos"),
    "convert": Verb("data", "write a dataset in another layout, for other tools", "my_videos coco --to coco"),
    "index": Verb("data", "a dataset's records as a table, for large datasets", "my_videos videos.parquet"),
    "pack": Verb("data", "a dataset as Parquet shards, for object storage", "my_videos s3://bucket/packed"),
    "sample-data": Verb("data", "write a small dataset of generated videos", "generated"),
    "estimate": Verb(
        "training", "the memory that a training needs, before it runs", "model=large trainer=gpu"
    ),
    "train": Verb("training", "train, with settings as overrides", "dataset.data_path=my_videos split=video"),
    "cache-features": Verb(
        "training", "encode the training videos once, for a frozen encoder", "dataset.feature_cache=cache"
    ),
    "evaluate": Verb("using", "J and F of a checkpoint on whole videos", "runs/mine my_videos"),
    "predict": Verb("using", "masks on new videos", "runs/mine clip.mp4 --point 480,200"),
    "export": Verb(
        "using", "a checkpoint for stock SAM 2, or for transformers", "runs/mine/checkpoints/best.ckpt out.pt"
    ),
    "push": Verb("using", "an export for transformers, to the Hugging Face hub", "tuned me/tuned"),
    "average": Verb(
        "using", "the mean of several checkpoints, or of one and its start", "runs/a runs/b --out averaged.pt"
    ),
    "doctor": Verb("machine", "what is installed and works here, and fixes for what is not", "--json"),
}
_CLOSED_PIPE = 141  # 128 + 13, what a shell reports for a process ended by SIGPIPE
_HEADINGS = {
    "data": "your data",
    "training": "training",
    "using": "what was trained",
    "machine": "this machine",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb.

    Exit codes: 0 done; 1 if `validate`, `doctor` or `pack --verify` found faults, or `estimate` is above its
    limit; 2 bad input; 3 training failed; 129 SIGHUP; 130 Ctrl-C; 143 SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_ARGCOMPLETE" in os.environ:
        return _complete()
    with exit_on_error():
        _check_text(given)
        check_ranks()
    parser = _parser()
    if not given:
        return parser.print_help()
    verb = parser.parse_args(given[:1]).verb
    if verb not in VERBS:
        close = get_close_matches(verb, VERBS, n=1)
        parser.error(f"{verb}: no such verb{f', did you mean {close[0]}?' if close else ''}")
    with _quiet_on_closed_pipe():
        _run(verb, given[1:])


def _run(verb: str, rest: Sequence[str]) -> None:
    with exit_on_error():
        _check_working_directory()
    module = _module_of(verb)
    if not hasattr(module, "add_arguments"):  # train: the rest is Hydra's, its options too
        return module.run(rest)
    options = _parse(parser_of(verb), rest)
    from sam2vt.logs import setup_logging

    setup_logging()
    with exit_on_error():
        module.run(options)


@contextmanager
def _quiet_on_closed_pipe() -> Iterator[None]:
    """End silently if the reader of a pipe closes it, as in `sam2vt validate data | head`."""
    try:
        yield
        if sys.stdout is not None:  # None: it was closed before the start, by >&-
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_CLOSED_PIPE) from None


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb's arguments."""
    parser = argparse.ArgumentParser(f"sam2vt {verb}", **_help_of(verb))
    _module_of(verb).add_arguments(parser)
    return parser


def _help_of(verb: str) -> dict[str, Any]:
    text = VERBS[verb].text
    return {
        "description": f"{text[0].upper()}{text[1:]}.",
        "epilog": f"example:\n  sam2vt {verb} {VERBS[verb].example}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _complete() -> None:
    """Tell a shell what can come next: verbs, their options, files, and the settings of train."""
    import argcomplete

    parser = argparse.ArgumentParser("sam2vt")
    verbs = parser.add_subparsers()
    for verb in VERBS:
        inner, module = verbs.add_parser(verb), _module_of(verb)
        if hasattr(module, "add_arguments"):
            module.add_arguments(inner)
        else:
            inner.add_argument("overrides", nargs="*").completer = module.complete  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _module_of(verb: str) -> Any:
    return importlib.import_module(f"sam2vt.commands.{verb.replace('-', '_')}")


def _parser() -> argparse.ArgumentParser:
    lines = []
    for group, heading in _HEADINGS.items():
        lines += [
            f"{heading}:",
            *(f"  {v:<16}{each.text}" for v, each in VERBS.items() if each.group == group),
            "",
        ]
    parser = argparse.ArgumentParser(
        "sam2vt",
        usage="sam2vt [-h] [--version] VERB ...",
        description="Fine-tune SAM 2 for video object segmentation.",
        epilog="\n".join([*lines, "sam2vt VERB --help lists the arguments of a verb, with an example."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sam2vt {__version__}")
    parser.add_argument("verb", metavar="VERB", help="one of the verbs below")
    return parser


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides after an option, which argparse does not take together
        options.overrides = [*options.overrides, *rest]
    return options


def _check_working_directory() -> None:
    try:
        os.getcwd()
    except OSError as error:  # Hydra would show a traceback, and PyTorch's libraries could not be loaded
        raise ConfigError(
            "the working directory was removed; change to one that exists, as by cd ~"
        ) from error


def _check_text(arguments: Sequence[str]) -> None:
    for each in arguments:
        shown = each.encode("utf-8", "backslashreplace").decode()
        if shown != each:
            raise ConfigError(
                f"{shown}: is not UTF-8 text; allowed are names in UTF-8: rename it, or name another"
            )


if __name__ == "__main__":
    main()
