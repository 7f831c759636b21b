"""`sam2vt predict`: masks on new videos, from clicks, boxes, masks or detections."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vt.commands.arguments import add_reading, add_weights, check_weights, count, dataset_of
from sam2vt.errors import EXIT_CODES, ConfigError
from sam2vt.imports import importing
from sam2vt.logs import leave_closed_terminal

if TYPE_CHECKING:
    from sam2vt.core.prediction.call import Call
    from sam2vt.core.prediction.engine import Engine
    from sam2vt.core.prediction.given import Given
    from sam2vt.core.prediction.journal import TrackedVideo
    from sam2vt.core.prediction.source import Source

log = logging.getLogger(__name__)

_FORMATS = ("png", "coco", "overlay", "csv")
# Settings that change masks or files: a resumed call has the same, but for the formats.
_COMPARED = (
    *("source", "direction", "formats", "overlaps", "presence", "fill_holes", "min_area", "resize"),
    *("postprocessing", "precision", "image_size", "match_iou", "reprompt_every", "end_after", "min_score"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "checkpoint",
        help="a run's folder, a checkpoint, an export, transformers' or Meta's weights; path or URI",
    )
    parser.add_argument("source", help="a video, a folder, a pattern, a URI, a dataset, - or camera:0")
    _add_prompts(parser.add_argument_group("prompts, in pixels of the source"))
    _add_masks(parser.add_argument_group("masks and files"))
    add_weights(parser)
    add_reading(parser)


def _add_prompts(group: Any) -> None:
    group.add_argument(
        "--point", action="append", default=[], metavar="x,y", help="on the object; repeatable"
    )
    group.add_argument("--negative", action="append", default=[], metavar="x,y", help="beside it; repeatable")
    group.add_argument("--box", metavar="x0,y0,x1,y1", help="around the object")
    group.add_argument("--frame", type=count, default=0, help="of these (default: %(default)s)")
    group.add_argument("--prompts", metavar="FILE", help="a JSON of objects, frames and prompts")
    group.add_argument("--masks", metavar="FOLDER", help="masks of one or several frames, as PNGs")
    group.add_argument(
        "--detections", metavar="FILE", help="a detector's boxes or masks, per frame and class"
    )
    group.add_argument("--detections-images", metavar="FILE", help="the COCO JSON of their images")
    group.add_argument("--min-score", type=float, default=0.0, help="of detections (default: %(default)s)")
    group.add_argument("--match-iou", type=float, default=0.5, help="of a detection and the object it shows")
    every = "frames after which a detection prompts its object anew; 0: never (default: %(default)s)"
    group.add_argument("--reprompt-every", type=count, default=0, help=every)
    after = "frames of absence after which a detected object ends; 0: never (default: %(default)s)"
    group.add_argument("--end-after", type=count, default=0, help=after)


def _add_masks(group: Any) -> None:
    ways = ("forward", "backward", "both")
    group.add_argument("--direction", choices=ways, default=ways[0], help="from the prompted frames")
    overlaps = "a pixel belongs to one object, or to several (default: %(default)s)"
    group.add_argument("--overlaps", choices=("resolve", "keep"), default="resolve", help=overlaps)
    presence = "probability above which an object counts as visible (default: %(default)s)"
    group.add_argument("--presence", type=float, default=0.5, help=presence)
    group.add_argument(
        "--fill-holes", type=count, default=0, metavar="PIXELS", help="holes of up to this area"
    )
    group.add_argument("--min-area", type=count, default=0, metavar="PIXELS", help="remove smaller islands")
    formats = f"what to write, see docs/masks-on-new-videos.md (default: {' '.join(_FORMATS)})"
    group.add_argument("--formats", nargs="+", metavar="FORMAT", help=formats)
    group.add_argument("--out", help="folder to write to; default: a new one, runs/predict/CHECKPOINT")
    group.add_argument(
        "--resume", metavar="OUT", help="continue a call in its folder, with the same arguments"
    )


def run(options: argparse.Namespace) -> None:
    """Track every video of the source, write its masks, and say where they are.

    Raises ConfigError, DataError and CheckpointError for what cannot be used.
    """
    with importing():
        from sam2vt.core.prediction.engine import Engine, MaskOptions
        from sam2vt.core.prediction.given import Asked, Given
        from sam2vt.core.prediction.outputs import check_outputs
        from sam2vt.core.prediction.outputs.output import Plan as Planned
        from sam2vt.core.prediction.weights import open_weights

    check_weights(options)
    asked = Asked(**{each.name: getattr(options, each.name) for each in fields(Asked)})
    names = ("resize", "overlaps", "presence", "fill_holes", "min_area")
    how = MaskOptions(**{name: getattr(options, name) for name in names})
    options.formats = options.formats or _default_formats(options)
    check_outputs(options.formats, [Planned(options.source, (), options.overlaps == "keep")])
    # Everything that can be wrong is looked at before the weights, which may be fetched for minutes.
    sources = _open(options)
    given = Given(asked, sources)
    _check(options, sources, given)
    weights = open_weights(
        options.checkpoint,
        device=options.device,
        config_path=options.network,
        image_size=options.image_size,
        base=options.base,
        postprocessing=options.postprocessing,
        precision=options.precision,
    )
    with _folder(options, weights.name) as folder:
        _predict(options, Engine(weights, how), sources, given, folder)


def _default_formats(options: argparse.Namespace) -> list[str]:
    return ["objects" if each == "png" and options.overlaps == "keep" else each for each in _FORMATS]


def _open(options: argparse.Namespace) -> list[Source]:
    from sam2vt.core.prediction.following import check_direction
    from sam2vt.core.prediction.sources import open_sources

    options.data = options.source
    sources = open_sources(options.source, dataset_of(options))
    for source in sources:
        check_direction(options.direction, source, options.detections is not None)
    return sources


def _check(options: argparse.Namespace, sources: Sequence[Source], given: Given) -> None:
    """Raise DataError for prompts and formats that do not fit a video at hand, before anything is tracked."""
    from sam2vt.core.prediction.outputs import check_outputs
    from sam2vt.core.prediction.outputs.output import Plan
    from sam2vt.core.prediction.source import FetchedSource

    planned = []
    for source in sources:
        if not source.is_live and not isinstance(source, FetchedSource):
            ids = tuple(sorted({each.object_id for each in given(source)[0].prompts}))
            planned.append(Plan(source.video_id, ids, options.overlaps == "keep"))
    check_outputs(options.formats, planned)


@contextmanager
def _folder(options: argparse.Namespace, name: str) -> Iterator[Path]:
    """Yield the folder of this call, a new one unless it is resumed."""
    from sam2vt.core.storage.disk import new_folder, unwritable

    if options.resume and options.out:
        raise ConfigError("--out and --resume: a resumed call writes into its own folder; leave --out out")
    if options.resume:
        folder = Path(options.resume)
        if not (folder / "predict.json").is_file():
            raise ConfigError(f"--resume {folder}: is no folder of `sam2vt predict`; name the one it printed")
        yield folder
        return
    out = Path(options.out or f"runs/predict/{name}")
    if options.out and out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"--out {out}: has something in it; name a new folder, or continue with --resume {out}"
        )
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(new_folder(out, alone=options.out is None))
        except FileExistsError:
            raise ConfigError(f"--out {out}: is a file; name a folder") from None
        except OSError as error:
            raise unwritable(out, error) from None
        yield folder


def _predict(
    options: argparse.Namespace, engine: Engine, sources: Sequence[Source], given: Given, folder: Path
) -> None:
    from sam2vt.core.prediction.call import Call
    from sam2vt.core.prediction.outputs import check_outputs
    from sam2vt.core.prediction.run import Plan, predict

    call = Call(folder)
    request = {
        "version": 1,
        "checkpoint": engine.weights.path,
        "checkpoint_sha256": engine.weights.digest,
        "prompts_sha256": given.digest(),
        **{name: getattr(options, name) for name in _COMPARED},
        "videos": [source.video_id for source in sources],
    }
    with call.alone():
        check_outputs(call.begin(request))  # formats of the call before may fill the same folders
        with _resumable(call):
            videos = predict(Plan(engine, given, options.formats, options.direction), sources, call)
    _report(options, videos, folder)


@contextmanager
def _resumable(call: Call) -> Iterator[None]:
    """Say how to continue, whatever ends the block early; before the first frame leave nothing instead."""
    from sam2vt.core.prediction.suggestion import program

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def end(number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_closed_terminal()
        raise SystemExit(EXIT_CODES[signal.Signals(number)])

    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, end)
        yield
    except BaseException:
        if not call.forget():
            command = shlex.join([*program(), *_without_folder(sys.argv[1:]), "--resume", str(call.folder)])
            print(f"what is tracked is kept; continue with: {command}", file=sys.stderr)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _without_folder(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without --out and --resume, also as --out=FOLDER or shortened."""
    kept, rest = [], iter(arguments)
    for each in rest:
        name, equals, _ = each.partition("=")
        if len(name) > 3 and any(option.startswith(name) for option in ("--out", "--resume")):
            if not equals:
                next(rest, None)
        else:
            kept.append(each)
    return kept


def _report(options: argparse.Namespace, videos: Sequence[TrackedVideo], folder: Path) -> None:
    from sam2vt.core.prediction.outputs import OUTPUTS

    frames, objects = sum(each.num_frames for each in videos), sum(len(each.object_ids) for each in videos)
    counts = ((len(videos), "video"), (frames, "frame"), (objects, "object"))
    told = ", ".join(f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts)
    print(f"{told}:\n  {folder}")
    lines = textwrap.TextWrapper(80, initial_indent="  ", subsequent_indent=" " * 13, break_on_hyphens=False)
    for name in options.formats:
        print(lines.fill(f"{name:<10} {OUTPUTS[name].meaning}"))
    print("next:")
    if "overlay" in options.formats:  # paths have lines of their own, to be copied
        print(f"  look at\n    {os.path.join(folder, 'overlay', f'{videos[0].name}.mp4')}")
    print("  load in Python\n    from sam2vt.core.prediction.call import load_masks")
    print(f"    videos = load_masks({str(folder)!r})")
    print(f"    frames = videos[{videos[0].video_id!r}].frames()")
    print('  correct by prompts with "correct": true, see docs/masks-on-new-videos.md')
