"""The benchmark for a bare GPU machine: reduced on the CPU, in full on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[2]


def test_it_runs_without_ray_and_without_a_decoder(tmp_path: Path) -> None:
    for name in ("ray", "av"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not to be imported')")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = tmp_path / "record.md"
    script = str(REPO / "benchmarks" / "gpu" / "run.sh")
    command = [script, "--device", device, "--repeats", "1", "--minutes", "0", "--out", str(out)]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-2000:]
    record = out.read_text()
    assert "# A training step on" in record
    assert "Loss equal to SAM 2's to 1e-5" in record
    assert record.count(", T=") == 1
    assert "In short: a step takes" in record
