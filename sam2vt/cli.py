"""The command line: one verb a job, `sam2vt <verb> --help` for its arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from sam2vt.config import DatasetConfig
from sam2vt.errors import ConfigError, exit_on_error
from sam2vt.settings import choices

TRAIN_HELP = (
    "train from Hydra overrides such as experiment=overfit dataset.data_path=videos; --cfg job prints"
)

_READ_HELP = (
    "headers; masks: every mask, and a clip of each video; all: every frame, too (default: %(default)s)"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb.

    Exit codes: 0 done, 1 validate or pack --verify found faults or estimate more than its limit, 2 bad input,
    3 training failed, 130 Ctrl-C, 143 SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with exit_on_error():
        _check_text(given)
    if given[:1] == ["train"]:  # the rest is Hydra's, its options too
        from sam2vt import train

        return train.main(given[1:])
    parser = build_parser()
    options, rest = parser.parse_known_args(given)
    if rest and (not hasattr(options, "overrides") or any(each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides after an option, which argparse does not take together
        options.overrides += rest
    with exit_on_error():
        options.run(options)


def _check_text(arguments: Sequence[str]) -> None:
    for each in arguments:
        shown = each.encode("utf-8", "backslashreplace").decode()
        if shown != each:
            raise ConfigError(
                f"{shown}: is not UTF-8 text; allowed are names in UTF-8: rename it, or name another"
            )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sam2vt", description="Fine-tune SAM 2 for video object segmentation.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    verbs.add_parser("train", help=TRAIN_HELP)

    evaluate = verbs.add_parser("evaluate", help="J and F of a checkpoint on whole videos, with overlays")
    evaluate.add_argument("checkpoint", help="a training checkpoint, exported or Meta's weights; path or URI")
    evaluate.add_argument("data", help="a folder of videos or a COCO JSON")
    evaluate.add_argument("--out", default="runs/evaluate", help="folder to write to (default: %(default)s)")
    evaluate.add_argument("--prompt", default="mask", help="mask, box or point (default: %(default)s)")
    evaluate.add_argument("--points", type=_count, default=1, help="positive points of a point prompt")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n>")
    evaluate.add_argument("--network", help="the network's YAML, for weights alone")
    evaluate.add_argument("--image-size", type=int, help="pixels; default: what the checkpoint was made for")
    evaluate.add_argument("--base", help="where the weights that the training started from lie, if moved")
    _add_reading(evaluate)
    evaluate.add_argument("--all-frames", action="store_true", help="score first and last frames too")
    evaluate.add_argument("--overlays", type=_count, default=4, help="videos to draw (default: %(default)s)")
    evaluate.add_argument("--seed", type=_count, default=0, help="of the prompts drawn")
    evaluate.set_defaults(run=_evaluate)

    export = verbs.add_parser("export", help="write a checkpoint that stock SAM 2 loads, and its YAML")
    export.add_argument("checkpoint", help="a training checkpoint")
    export.add_argument("out", help="the file to write, such as tuned.pt")
    export.add_argument("--base", help="where the weights that the training started from lie, if moved")
    export.set_defaults(run=_export)

    index = verbs.add_parser("index", help="write a dataset's records as a table, for large datasets")
    index.add_argument("data", help="a folder of videos or a COCO JSON")
    index.add_argument("out", help="the table to write, such as videos.parquet: path or URI")
    _add_reading(index)
    index.set_defaults(run=_index)

    validate = verbs.add_parser("validate", help="what a dataset holds, and everything that is wrong with it")
    validate.add_argument("data", help="whatever dataset.data_path may be")
    _add_reading(validate)
    validate.add_argument("--read", default="masks", choices=("headers", "masks", "all"), help=_READ_HELP)
    validate.add_argument("--clip-length", type=_positive, default=5, help="frames (default: %(default)s)")
    validate.add_argument("--frame-stride", type=_positive, default=1, help="(default: %(default)s)")
    validate.add_argument("--image-size", type=_positive, default=512, help="pixels (default: %(default)s)")
    validate.add_argument("--workers", type=_positive, help="processes (default: the number of CPUs)")
    validate.add_argument("--json", action="store_true", help="print everything as JSON")
    validate.add_argument("--report", help="an HTML page to write, with pictures of random clips")
    validate.set_defaults(run=_validate)

    convert = verbs.add_parser("convert", help="write a dataset in another layout, for other tools")
    convert.add_argument("data", help="whatever dataset.data_path may be")
    convert.add_argument("out", help="the folder to write; an interrupted conversion goes on")
    convert.add_argument("--to", required=True, help="davis, davis-objects, sav or coco")
    _add_reading(convert)
    convert.add_argument("--encode", default="jpeg:95", help="frames of video files: jpeg:<quality> or png")
    convert.add_argument("--link", action="store_true", help="hard links to image files in place of copies")
    convert.add_argument("--fps", type=float, default=24.0, help="of videos written (default: %(default)s)")
    convert.add_argument("--lossy", action="store_true", help="leave out what the layout cannot say")
    convert.set_defaults(run=_convert)

    preview = verbs.add_parser("preview", help="a picture of clips as training draws and augments them")
    preview.add_argument("data", help="whatever dataset.data_path may be")
    preview.add_argument("overrides", nargs="*", help="as for train, such as dataset/augment=strong")
    preview.add_argument("--out", default="preview.png", help="the PNG to write (default: %(default)s)")
    preview.add_argument("--clips", type=_positive, default=4, help="how many (default: %(default)s)")
    preview.set_defaults(run=_preview)

    estimate = verbs.add_parser("estimate", help="what a training needs in memory, before it runs")
    estimate.add_argument("overrides", nargs="*", help="as for train, such as model=base_plus max_objects=3")
    estimate.add_argument("--limit", help="what it has to fit into, such as 8GB; else names what would help")
    estimate.set_defaults(run=_estimate)

    features = verbs.add_parser(
        "cache-features", help="encode the training videos once, for a frozen encoder"
    )
    features.add_argument("overrides", nargs="*", help="as for train, dataset.feature_cache among them")
    features.set_defaults(run=_cache_features)

    pack = verbs.add_parser("pack", help="write a dataset as Parquet shards, for object storage")
    pack.add_argument("data", help="whatever dataset.data_path may be; with --verify a pack")
    pack.add_argument("out", nargs="?", help="the folder or URI to write to; an interrupted pack goes on")
    _add_reading(pack)
    pack.add_argument("--segment-frames", type=_positive, default=16, help="of a row (default: %(default)s)")
    pack.add_argument("--shard-mb", type=_positive, default=128, help="of a file (default: %(default)s)")
    pack.add_argument("--encode", default="keep", help="keep, png or jpeg:<quality> (default: %(default)s)")
    pack.add_argument("--workers", type=_positive, help="processes (default: the number of CPUs)")
    pack.add_argument("--verify", action="store_true", help="hold every file of a pack to its checksum")
    pack.set_defaults(run=_pack)

    sample = verbs.add_parser("sample-data", help="write a small dataset of generated videos")
    sample.add_argument("out", help="the folder to write")
    sample.add_argument("--videos", type=int, default=3, help="how many (default: %(default)s)")
    sample.add_argument("--frames", type=int, default=60, help="of each (default: %(default)s)")
    sample.add_argument("--seed", type=_count, default=0)
    sample.set_defaults(run=_sample_data)
    return parser


def _add_reading(verb: argparse.ArgumentParser) -> None:
    """How the dataset is to be read."""
    layouts = ", ".join(choices(DatasetConfig, "dataset_type"))
    verb.add_argument("--dataset-type", default="auto", help=layouts)
    verb.add_argument("--identity", default="error", help="COCO without track ids: category or iou")
    verb.add_argument("--image-root", help="COCO: where file_name starts")
    verb.add_argument("--allow-absolute-paths", action="store_true", help="COCO: files outside its folder")

    verb.add_argument("--colours", type=_colours, help="masks in colours: cat=255,0,0 dog=0,255,0", nargs="+")


def _colours(text: str) -> tuple[str, tuple[int, ...]]:
    """A class and its colour."""
    name, _, numbers = text.partition("=")
    parts = numbers.split(",")
    if not name or len(parts) != 3 or not all(each.strip().isdecimal() for each in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no class with its colour, such as cat=255,0,0")
    return name, tuple(map(int, parts))


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    names = ("dataset_type", "identity", "image_root", "allow_absolute_paths")
    reading = {name: getattr(options, name) for name in names}
    return reading | {"colours": dict(options.colours) if options.colours else None}


def _count(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _positive(text: str) -> int:
    """A whole number from 1 on."""
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("0 is not a whole number of 1 or more")
    return int(text)


def _evaluate(options: argparse.Namespace) -> None:
    from sam2vt.commands.evaluate import EvaluationSettings, evaluate_checkpoint
    from sam2vt.train import setup_logging

    setup_logging()
    settings = EvaluationSettings(
        prompt=options.prompt,
        num_points=options.points,
        seed=options.seed,
        score_first_and_last=options.all_frames,
        num_overlay_videos=options.overlays,
        **_reading(options),
    )
    found = evaluate_checkpoint(
        options.checkpoint,
        options.data,
        options.out,
        settings,
        device=options.device,
        config_path=options.network,
        image_size=options.image_size,
        base=options.base,
    )
    print(found.table)
    print(f"scores and overlays: {found.folder}")


def _export(options: argparse.Namespace) -> None:
    from pathlib import Path

    from sam2vt.core.model.export import export_checkpoint

    yaml = Path(export_checkpoint(options.checkpoint, options.out, base=options.base)).resolve()
    print(f"weights: {options.out}\nnetwork: {yaml}")
    weights = Path(options.out).resolve()
    # Hydra takes a path that begins with two slashes as absolute.
    print(f'SAM 2 loads them: build_sam2_video_predictor("/{yaml}", "{weights}")')


def _index(options: argparse.Namespace) -> None:
    from sam2vt.core.data.formats import load_records
    from sam2vt.core.data.records.table import SUFFIX, write_records
    from sam2vt.train import setup_logging

    setup_logging()
    if not options.out.endswith(SUFFIX):
        raise ConfigError(f"{options.out}: the name of a record table has to end in {SUFFIX}")
    records = load_records(data_path=options.data, **_reading(options))
    write_records(records, options.out)
    print(f"{len(records)} videos: {options.out}; train on them with dataset.data_path={options.out}")


def _validate(options: argparse.Namespace) -> None:
    from sam2vt.commands.validate import validate
    from sam2vt.core.data.checking.video import VideoCheck
    from sam2vt.train import setup_logging

    setup_logging()
    check = VideoCheck(options.read, options.clip_length, options.frame_stride)
    is_sound = validate(
        _dataset(options),
        check,
        image_size=options.image_size,
        workers=options.workers,
        as_json=options.json,
        report=options.report,
    )
    if not is_sound:
        raise SystemExit(1)


def _preview(options: argparse.Namespace) -> None:
    from sam2vt.commands.preview import preview
    from sam2vt.train import setup_logging

    setup_logging()
    print(preview(options.data, options.out, options.overrides, options.clips))


def _cache_features(options: argparse.Namespace) -> None:
    from sam2vt.commands.cache_features import cache_features

    print(f"features: {cache_features(options.overrides)}")


def _records(options: argparse.Namespace) -> Sequence[Any]:
    from sam2vt.core.data.opening import open_records

    return open_records(_dataset(options))


def _dataset(options: argparse.Namespace) -> DatasetConfig:
    return DatasetConfig(data_path=options.data, **_reading(options))


def _estimate(options: argparse.Namespace) -> None:
    from sam2vt.commands.estimate import print_estimate

    if not print_estimate(options.overrides, options.limit):
        sys.exit(1)


def _pack(options: argparse.Namespace) -> None:
    from sam2vt.core.data.writing.pack import PackOptions, pack
    from sam2vt.train import setup_logging

    setup_logging()
    if options.verify:
        return _verify(options.data)
    if options.out is None:
        raise ConfigError("OUT is missing: the folder or URI to write to, as in `sam2vt pack DATA OUT`")
    how = PackOptions(options.segment_frames, options.shard_mb, options.encode)
    made = pack(_records(options), options.out, how, options.workers)
    num_bytes = sum(part.bytes for part in made.parts)
    print(f"{made.videos} videos of {made.frames} frames in {len(made.shards)} shards of {num_bytes} bytes")
    print(f"train on them with dataset.data_path={options.out}")


def _convert(options: argparse.Namespace) -> None:
    from sam2vt.core.data.writing.convert import convert
    from sam2vt.core.data.writing.options import ConvertOptions
    from sam2vt.train import setup_logging

    setup_logging()
    how = ConvertOptions(options.encode, options.link, options.fps)
    records = _records(options)
    convert(records, options.out, options.to, how, options.lossy)
    print(f"{len(records)} videos: {options.out}")


def _verify(path: str) -> None:
    from sam2vt.core.data.formats.packed import verify

    manifest, faults = verify(path)
    for fault in faults:
        print(fault)
    print(f"{len(manifest.parts)} files, {len(faults)} of them bad")
    if faults:
        raise SystemExit(1)


def _sample_data(options: argparse.Namespace) -> None:
    from sam2vt.core.data.writing.sample_data import write_sample_data

    write_sample_data(options.out, num_videos=options.videos, num_frames=options.frames, seed=options.seed)
    print(f"{options.videos} videos of {options.frames} frames: {options.out}")


if __name__ == "__main__":
    main()
