from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sam2vt import cli

# Arguments, and what the message says of them.
WRONG = [
    (["A"], "A: one checkpoint has no average"),
    (["A", "B", "--weights", "1"], "--weights 1: must be one for each checkpoint, of which there are 2"),
    (["A", "B", "--weights", "0.7", "0.4"], "must sum to 1, they sum to 1.1"),
    (["A", "B", "--weights", "1.5", "-0.5"], "each must be above 0 and below 1"),
    (["A", "B", "--weights", "nan", "0.5"], "each must be above 0 and below 1"),
    (["A", "B", "--weights", "half", "half"], "invalid float value: 'half'"),
    (["A", "B", "A"], "A: named more than once"),
    (["A", "--with-base", "1.5"], "--with-base 1.5: must be above 0 and below 1"),
    (["A", "--with-base", "0"], "--with-base 0: must be above 0 and below 1"),
    (["A", "--with-base", "nan"], "--with-base nan: must be above 0 and below 1"),
    (["A", "B", "--with-base", "0.5"], "takes one checkpoint, got 2"),
    (["A", "--with-base", "0.5", "--weights", "1"], "one checkpoint has no weights"),
    (["A", "B"], "A: no such checkpoint file"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_bad_input_is_one_message(
    exit_code: Callable[..., int],
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code("average", *arguments, "--out", "new/mean.pt") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_shares_are_checked_before_torch_is_loaded() -> None:
    code = (
        "import sys\nfrom sam2vt import cli\ntry:\n"
        "    cli.main(['average', 'A', 'B', '--out', 'x.pt', '--weights', '1', '1'])\n"
        "finally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "False\n")


def test_it_says_what_the_mean_is_made_of(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, same = tmp_path / "mean.pt", shutil.copy(checkpoint, tmp_path / "same.ckpt")
    cli.main(["average", str(checkpoint), str(same), "--out", str(out), *("--weights", "0.75", "0.25")])
    printed = capsys.readouterr().out
    assert f"0.750 of {checkpoint}\n0.250 of {same}\nweights: {out}\n" in printed
    assert f'build_sam2_video_predictor("/{out.with_suffix(".yaml")}", "{out}")' in printed
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, value in torch.load(out, weights_only=True)["model"].items():
        torch.testing.assert_close(value, before[f"model.network.{name}"])
