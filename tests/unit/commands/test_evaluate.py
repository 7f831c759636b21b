"""`sam2vt evaluate`, and the weights that `sam2vt export` writes for it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2vt import cli
from sam2vt.commands import evaluate
from sam2vt.config import ModelConfig
from sam2vt.core.evaluation.palette import LOOKS, as_hex
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_scores(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluate_prints_and_writes_scores_beside_the_baseline(
    sample: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    arguments = ["--out", str(out), "--device", "cpu", "--style", "screen"]
    cli.main(["evaluate", str(checkpoint), str(sample), *arguments])
    shown = capsys.readouterr().out
    assert "held: J&F of each object's first mask" in shown
    assert f"results:\n  {out}\n" in shown
    # But for paths, which have lines of their own.
    assert all(len(line) <= 80 for line in shown.splitlines() if str(tmp_path) not in line)
    assert f"  {checkpoint}\n" in shown
    rows = read_scores(out)
    assert rows[-1]["video"] == "all"
    assert 0.0 < float(rows[-1]["J_hold_first"]) <= 1.0
    label = f"last@{digest(checkpoint)[:12]}"
    assert {row["checkpoint"] for row in rows} == {label}
    assert label in shown
    videos = {row["video"] for row in rows} - {"all"}
    pictures = {path.name for path in (out / "overlays").iterdir()}
    assert pictures == {f"01_{video}.{end}" for video in videos for end in ("png", "gif")}
    with Image.open(next((out / "overlays").glob("*.png"))) as picture:
        assert as_hex(picture.convert("RGB").getpixel((0, 0))) == LOOKS["screen"].paper


def test_a_run_against_another_checkpoint(
    sample: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores of both, their difference, and both named in the files."""
    other = run_folder(checkpoint, tmp_path / "other")
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["model.network.sam_mask_decoder.pred_obj_score_head.layers.2.bias"] -= 200
    torch.save(content, tmp_path / "absent.ckpt")  # takes every object for absent
    best = digest(other / "checkpoints" / "best.ckpt")
    out, arguments = tmp_path / "scores", ["--device", "cpu", "--overlays", "0", "--prompt", "box"]
    given = [str(other), str(sample), "--against", str(tmp_path / "absent.ckpt"), "--out", str(out)]
    how = ["--precision", "bf16-mixed", "--image-size", "32", "--save-masks"]
    cli.main(["evaluate", *given, *arguments, *how])
    shown = capsys.readouterr().out
    assert f"J&F minus that of absent@{digest(tmp_path / 'absent.ckpt')[:12]}: +" in shown
    assert "(one video: no interval)" in shown
    last = read_scores(out)[-1]
    assert last["checkpoint"] == f"other_best@{best[:12]}"
    assert float(last["J_difference"]) == float(last["J"]) - float(last["J_against"])
    assert float(last["J_difference"]) > 0
    found = json.loads((out / "scores.json").read_text())
    assert found["checkpoint"]["sha256"] == best
    assert found["against"]["name"] == "absent"
    assert found["settings"]["precision"] == "bf16-mixed"
    assert found["settings"]["image_size"] == 32
    assert found["difference"]["J"]["low"] is None
    masks = sorted((out / "masks").glob("*/*.png"))
    assert len(masks) == 12
    frame = next(path for path in sample.rglob("*") if path.suffix in (".jpg", ".png"))
    assert {Image.open(path).size for path in masks} == {Image.open(frame).size}
    assert any(np.asarray(Image.open(path)).any() for path in masks)


def test_zero_shot_is_evaluated_too(
    sample: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    start = tmp_path / "start.pt"
    torch.save({"state_dict": content["state_dict"]}, start)
    content["hyper_parameters"]["config"]["model"]["checkpoint_path"] = str(start)
    content["state_dict"]["model.network.no_mem_embed"] += 1
    torch.save(content, tmp_path / "tuned.ckpt")
    arguments = [str(tmp_path / "tuned.ckpt"), str(sample), "--device", "cpu", "--overlays", "0"]
    cli.main(["evaluate", *arguments, "--against", "zero-shot", "--out", str(tmp_path / "scores")])
    label = f"zero-shot_start@{digest(start)[:12]}"
    assert f"J&F minus that of {label}" in capsys.readouterr().out
    assert {row["against"] for row in read_scores(tmp_path / "scores")} == {label}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "scribble"], "invalid choice: 'scribble'"),
        (["--points", "0"], "not a whole number of 1 or more"),
        (["--device", "gpu"], "--device='gpu': must be auto"),
        (["--precision", "16-mixed", "--device", "cpu"], "fp16 needs a GPU"),
        (["--image-size", "100"], "--image-size=100: must be"),
        (["--network", "any.yaml"], "knows its network"),
        (["--against", "no.ckpt"], "no.ckpt: no such checkpoint"),
        (["--against", "EMPTY"], "holds no checkpoints"),
        (["--against", "CHECKPOINT"], "is the same file as"),
        (["--against", "zero-shot"], "started from random weights"),
    ],
)
def test_what_is_wrong_is_told_before_data_is_read(
    arguments: list[str],
    message: str,
    sample: Path,
    checkpoint: Path,
    tmp_path: Path,
    exit_code: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluate, "records_of", lambda options: pytest.fail("data was read"))
    monkeypatch.chdir(tmp_path)
    places = {"EMPTY": str(tmp_path), "CHECKPOINT": str(checkpoint)}
    given = [places.get(each, each) for each in arguments]
    assert exit_code("evaluate", str(checkpoint), str(sample), *given) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_exported_weights_score_as_the_checkpoint_does(
    sample: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "tuned.pt"
    cli.main(["export", str(checkpoint), str(exported)])
    assert str(exported.with_suffix(".yaml")) in capsys.readouterr().out
    cli.main(["export", str(run_folder(checkpoint, tmp_path / "run")), str(tmp_path / "best.pt")])
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True)["model"] for name in ("tuned", "best")]
    assert all(torch.equal(each, weights[1][name]) for name, each in weights[0].items())
    tables = []
    for source in (checkpoint, exported):
        out = tmp_path / source.stem / "scores"
        arguments = [str(source), str(sample), "--out", str(out), "--device", "cpu", "--overlays", "0"]
        cli.main(["evaluate", *arguments, "--all-frames", "--prompt", "box"])
        tables.append([row | {"checkpoint": ""} for row in read_scores(out)])
        assert not (out / "overlays").exists()
    assert tables[0] == tables[1]
    assert float(tables[0][-1]["J"]) > 0


def run_folder(checkpoint: Path, folder: Path) -> Path:
    """Return the folder of a run whose only checkpoint this is."""
    copy = folder.with_name("copy.ckpt")
    shutil.copy(checkpoint, copy)
    store = CheckpointStore(str(folder / "checkpoints"), pauses=())
    store.put(copy, CheckpointInfo(3, 0, 3, 1, "validation", 0.5))
    return folder


def test_postprocessing_and_resizing_are_stocks_or_ours(
    sample: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Two options, each of which changes the masks; the default is the predictor's post-processing."""
    scores = {}
    for given in ([], ["--postprocessing=stock"], ["--postprocessing=none"], ["--resize=stock"]):
        out = tmp_path / "-".join(["scores", *given])
        arguments = [str(checkpoint), str(sample), "--out", str(out), "--device", "cpu", "--overlays", "0"]
        cli.main(["evaluate", *arguments, "--all-frames", "--prompt", "box", "--image-size", "32", *given])
        scores["".join(given)] = read_scores(out)
    assert scores[""] == scores["--postprocessing=stock"]
    assert scores[""] != scores["--postprocessing=none"]
    assert scores[""] != scores["--resize=stock"]


def test_evaluate_refuses_weights_without_a_network(
    sample: Path, tmp_path: Path, exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({"model": {"weight": torch.zeros(1)}}, weights)
    assert exit_code("evaluate", str(weights), str(sample)) == 2
    assert "configs/sam2.1/sam2.1_hiera_t.yaml" in capsys.readouterr().err
    network = ModelConfig().config_path
    assert exit_code("evaluate", str(weights), str(sample), "--network", network) == 2
    assert "does not fit" in capsys.readouterr().err


def test_evaluate_refuses_a_network_for_a_training_checkpoint(
    sample: Path, checkpoint: Path, exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("evaluate", str(checkpoint), str(sample), "--network", "any.yaml") == 2
    assert "knows its network" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "no.ckpt", "DATA"),
        ("evaluate", "CHECKPOINT", "no-data"),
        ("evaluate", "CHECKPOINT", "DATA", "--prompt", "scribble"),
        ("evaluate", "CHECKPOINT", "DATA", "--image-size", "100"),
        ("evaluate", "CHECKPOINT", "DATA", "--dataset-type", "davis"),
        ("evaluate", "CHECKPOINT", "DATA", "--device", "gpu"),
        ("evaluate", "CHECKPOINT", "DATA", "--out", "CHECKPOINT"),
        ("export", "no.ckpt", "out.pt"),
    ],
)
def test_bad_arguments_end_with_2(
    arguments: tuple[str, ...],
    sample: Path,
    checkpoint: Path,
    tmp_path: Path,
    exit_code: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"DATA": str(sample), "CHECKPOINT": str(checkpoint)}
    assert exit_code(*(given.get(argument, argument) for argument in arguments)) == 2
    assert "error: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # a refused command leaves nothing


def test_each_call_has_a_folder_of_its_own(
    sample: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_folder(checkpoint, tmp_path / "mine")
    for source in (checkpoint, checkpoint, run):
        cli.main(["evaluate", str(source), str(sample), "--device", "cpu", "--overlays", "0"])
    folders = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("runs/evaluate/*"))
    assert folders == ["runs/evaluate/last", "runs/evaluate/last_2", "runs/evaluate/mine_best"]
    assert all(read_scores(tmp_path / folder) for folder in folders)


def test_results_of_an_earlier_call_are_not_mixed_with_new_ones(
    sample: Path,
    checkpoint: Path,
    tmp_path: Path,
    exit_code: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "overlays").mkdir()
    assert exit_code("evaluate", str(checkpoint), str(sample), "--out", str(tmp_path)) == 2
    assert f"--out {tmp_path}: already has overlays; name another folder" in capsys.readouterr().err
    assert not (tmp_path / "scores.csv").exists()
