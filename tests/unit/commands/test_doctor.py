"""`sam2vt doctor` on this machine, and on one where something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sam2vt import cli
from sam2vt.commands import doctor
from sam2vt.health.finding import BROKEN, NOTE, Finding


def test_the_report_names_everything_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "lightning", "sam2", "av", "cv2")
    code = (
        "import sys\nfrom sam2vt import cli\ntry:\n    cli.main(['doctor'])\nfinally:\n"
        f"    print('LOADED', [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "LOADED []"
    assert done.stderr == ""
    assert max(map(len, lines)) <= 80
    names = {line[2:18].strip() for line in lines if line[1:2] == " "}
    assert names >= {"python", "sam2vt", "torch", "torchvision", "ray", "lightning", "sam2", "av", "opencv"}
    assert names >= {"CPUs", "h264", "hevc", "vp9", "av1", "mpeg4", "here", "temporary", "open files"}
    assert names >= {"RAY_ADDRESS", "huggingface_hub", "wandb"}


def test_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("torch", "2.6"), Finding("wandb", "missing", NOTE, "pip install")]
    monkeypatch.setattr(doctor, "CHECKS", {"packages": lambda: iter(found)})
    cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    first = {"group": "packages", "name": "torch", "value": "2.6", "state": "ok", "fix": ""}
    assert report["ok"] is True
    assert report["findings"][0] == first
    assert [each["state"] for each in report["findings"]] == ["ok", "note"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_is_broken_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    broken = Finding("sam2", "missing", BROKEN, "pip install 'sam2vt[sam2]'")
    monkeypatch.setattr(doctor, "CHECKS", {"packages": lambda: iter([broken])})
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *options])
    assert ended.value.code == 1
    assert "pip install 'sam2vt[sam2]'" in capsys.readouterr().out


def test_a_check_that_fails_leaves_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails():
        yield Finding("first", "found")
        raise OSError("no such device")

    monkeypatch.setattr(doctor, "CHECKS", {"devices": fails, "Ray": lambda: iter([Finding("last", "found")])})
    cli.main(["doctor"])
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("first", "cannot be checked: OSError: no such device", "last"))
