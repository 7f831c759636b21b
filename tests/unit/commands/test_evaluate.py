"""`sam2vt evaluate`, and the weights that `sam2vt export` writes for it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from sam2vt import cli
from sam2vt.config import ModelConfig


def read_scores(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluate_prints_and_writes_scores_beside_the_baseline(
    sample: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    cli.main(["evaluate", str(checkpoint), str(sample), "--out", str(out), "--device", "cpu"])
    shown = capsys.readouterr().out
    assert "J_hold_first" in shown
    assert str(out) in shown
    rows = read_scores(out)
    assert rows[-1]["video"] == "all"
    assert 0.0 < float(rows[-1]["J_hold_first"]) <= 1.0
    assert {path.suffix for path in (out / "overlays").iterdir()} == {".png", ".gif"}


def test_exported_weights_score_as_the_checkpoint_does(
    sample: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "tuned.pt"
    cli.main(["export", str(checkpoint), str(exported)])
    assert str(exported.with_suffix(".yaml")) in capsys.readouterr().out
    tables = []
    for source in (checkpoint, exported):
        out = tmp_path / source.stem / "scores"
        arguments = [str(source), str(sample), "--out", str(out), "--device", "cpu", "--overlays", "0"]
        cli.main(["evaluate", *arguments, "--all-frames", "--prompt", "box"])
        tables.append(read_scores(out))
        assert not (out / "overlays").exists()
    assert tables[0] == tables[1]
    assert float(tables[0][-1]["J"]) > 0


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
    import torch

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
    arguments = ["evaluate", str(checkpoint), str(sample), "--device", "cpu", "--overlays", "0"]
    for _ in range(2):
        cli.main(arguments)
    folders = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("runs/evaluate/*"))
    assert folders == ["runs/evaluate/last", "runs/evaluate/last_2"]
    assert all(read_scores(tmp_path / folder) for folder in folders)
