"""The verbs of the command line and the codes they end with."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from sam2vt import cli
from sam2vt.config import ModelConfig
from sam2vt.configuration.loading import from_dict, to_dict
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.records.table import RecordTable
from sam2vt.errors import CheckpointError, ConfigError, TrainingError, exit_on_error

VERBS = ("train", "evaluate", "export", "index", "validate", "preview", "convert", "pack", "sample-data")

# Runs the command line in a process of its own with the training replaced.
REPLACED = """
import sys
from sam2vt import cli, train
from sam2vt.errors import TrainingError

def replacement(config):
    print("COMMAND", *sys.argv[1:])
    print("FOLDER", config.output_dir)
    if config.name == "failing":
        raise TrainingError("the loss is not finite")
    if config.name == "broken":
        raise RuntimeError("a fault of our own")

train.train = replacement
cli.main()
"""


def run_replaced(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", REPLACED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def read_scores(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    cli.main(["sample-data", str(folder), "--videos", "1", "--frames", "12"])
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint of an untrained nano model that takes every object for present."""
    import torch

    from sam2vt.core.model.sam2 import build_from_config

    config = from_dict({"model": {"config_path": "network/sam2.1_nano.yaml", "image_size": 64}})
    torch.manual_seed(0)
    network = build_from_config(config.model).load("cpu").network
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(100.0)
    content = {
        "state_dict": {f"model.network.{name}": value for name, value in network.state_dict().items()},
        "hyper_parameters": {"config": to_dict(config)},
    }
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save(content, path)
    return path


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, sam2vt.cli as cli; cli.build_parser().format_help(); "
        "print([m for m in ('torch', 'ray', 'lightning', 'hydra', 'omegaconf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_verb_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("tarin") == 2
    assert "tarin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("a"), 2), (CheckpointError("a"), 2), (TrainingError("a"), 3)]
)
def test_errors_end_with_their_code_and_message(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr().err == "error: a\n"


@pytest.mark.parametrize("verb", ["train", "validate", "pack"])
def test_names_that_are_not_utf8_are_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(verb, "data", "caf\udce9") == 2
    assert "caf\\udce9: is not UTF-8 text; allowed are names in UTF-8: rename it" in capsys.readouterr().err


def test_train_runs_under_hydra_in_the_run_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = ["model=nano", f"dataset.data_path={tmp_path}", f"output_dir={folder}"]
    done = run_replaced("train", *overrides)
    assert done.returncode == 0, done.stderr
    # Lightning starts further processes by repeating the command, so the verb must still be there.
    assert f"COMMAND train {' '.join(overrides)}" in done.stdout
    assert f"FOLDER {folder}" in done.stdout
    assert (folder / ".hydra" / "overrides.yaml").is_file()


def test_a_failed_training_ends_with_3_and_a_message(tmp_path: Path) -> None:
    done = run_replaced(
        "train", "model=nano", f"dataset.data_path={tmp_path}", f"hydra.run.dir={tmp_path}", "name=failing"
    )
    assert done.returncode == 3
    assert "error: the loss is not finite" in done.stderr
    assert "Traceback" not in done.stderr


def test_our_own_faults_end_with_1_and_a_traceback(tmp_path: Path) -> None:
    done = run_replaced(
        "train", "model=nano", f"dataset.data_path={tmp_path}", f"hydra.run.dir={tmp_path}", "name=broken"
    )
    assert done.returncode == 1
    assert "RuntimeError: a fault of our own" in done.stderr


def test_sample_data_is_written_once(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(sample.rglob("*.png"))
    assert exit_code("sample-data", str(sample)) == 2
    assert str(sample) in capsys.readouterr().err


def test_index_writes_the_records(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "videos.parquet"
    cli.main(["index", str(sample), str(table)])
    assert f"1 videos: {table}" in capsys.readouterr().out
    assert list(RecordTable(table)) == load_records("auto", sample)
    assert exit_code("index", str(sample), str(tmp_path / "videos")) == 2
    assert "has to end in .parquet" in capsys.readouterr().err


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


def test_evaluate_refuses_weights_without_a_network(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    sample: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
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
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"DATA": str(sample), "CHECKPOINT": str(checkpoint)}
    assert exit_code(*(given.get(argument, argument) for argument in arguments)) == 2
    assert "error: " in capsys.readouterr().err
