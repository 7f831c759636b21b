"""`sam2vt train`: Hydra's run folder, and the codes that it ends with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Runs the command line in a process of its own with the training replaced.
REPLACED = """
import logging, sys
from sam2vt import cli, train
from sam2vt.errors import TrainingError

def replacement(config):
    print("COMMAND", *sys.argv[1:])
    logging.getLogger("sam2vt.core.a.module").info("a line")
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


def test_train_runs_under_hydra_in_the_run_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = ["model=nano", f"dataset.data_path={tmp_path}", f"output_dir={folder}"]
    done = run_replaced("train", *overrides)
    assert done.returncode == 0, done.stderr
    # Lightning starts further processes by repeating the command, so the verb must still be there.
    assert f"COMMAND train {' '.join(overrides)}" in done.stdout
    assert f"FOLDER {folder}" in done.stdout
    assert (folder / ".hydra" / "overrides.yaml").is_file()
    assert re.search(r"^\d\d:\d\d:\d\d a line$", done.stdout, re.MULTILINE)
    (log,) = folder.glob("*.log")
    assert log.read_text().endswith(" a line\n")


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
