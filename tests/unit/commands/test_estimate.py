from __future__ import annotations

import subprocess
import sys

import pytest

from sam2vt.commands.estimate import parse_size, print_estimate
from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.core.training.footprint import out_of_memory
from sam2vt.core.training.footprint.estimate import estimate
from sam2vt.errors import ConfigError

NANO = ["model=nano", "trainer=cpu", "model.image_size=64", "max_objects=2", "dataset.video_clip_length=2"]


def test_options_are_checked_before_torch_is_loaded() -> None:
    for arguments, fault in ((["--limit", "8"], "--limit 8"), (["modle=nano"], "modle")):
        code = (
            f"import sys\nfrom sam2vt import cli\ntry:\n    cli.main({['estimate', *arguments]})\n"
            f"finally:\n    print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "False\n")
        assert fault in done.stderr


def test_it_fits_or_says_what_would_help(capsys, monkeypatch, caplog) -> None:
    caplog.set_level("INFO", "sam2vt")
    monkeypatch.setattr(out_of_memory, "knobs_that_fit", lambda *_: iter([("max_objects=1", 5e8)]))
    assert print_estimate(NANO, "100GB")
    printed = capsys.readouterr().out
    assert "activations" in printed
    assert printed.endswith("fits into 100GB\n")
    there = estimate(load_config(compose_config([*NANO, "dataset.data_path=."])))
    limit = f"{there.device_bytes / 1e9 - 0.01:.3f}GB"
    assert not print_estimate(NANO, limit)
    printed = capsys.readouterr().out
    assert f"does not fit into {limit}; each of these alone would make it fit:" in printed
    assert printed.endswith("  max_objects=1  (0.50 GB)\n")
    assert caplog.messages == ["running a training step of sam2.1_nano without its content"] * 2


def test_what_no_setting_changes_is_said(capsys) -> None:
    assert not print_estimate(NANO, "1MB")
    assert capsys.readouterr().out.endswith(" GB are taken before the network is there\n")


@pytest.mark.parametrize(("text", "size"), [("8GB", 8e9), ("7.5GiB", 7.5 * 2**30), ("500 MB", 5e8)])
def test_sizes(text, size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["8", "GB", "-1GB", "1e3GB", "0GB", "8TB"])
def test_other_sizes_are_refused(text) -> None:
    with pytest.raises(ConfigError, match="such as 8GB"):
        parse_size(text)


def test_a_setting_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError):
        print_estimate(["no_such=1"])
