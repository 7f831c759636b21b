"""`sam2vt preview`: a picture of what training draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt import cli
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.evaluation.canvas import BAR, LABEL, MARGIN
from sam2vt.core.evaluation.sheets import PANEL


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    # No path that Hydra or OmegaConf would take as it is.
    root = tmp_path_factory.mktemp("preview") / r"some, data=[1] ${y} \${oc.env:HOME}"
    write_sample_data(str(root), num_videos=2, num_frames=8)
    return root


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit code, and what it prints."""
    try:
        cli.main(["preview", *map(str, arguments)])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_row_a_clip_and_a_column_a_frame(data, tmp_path, capsys):
    out = tmp_path / "new" / "p.png"
    code, printed = run(capsys, data, "--out", out, "--clips", 3, "dataset.video_clip_length=4")
    assert code == 0, printed
    assert str(out) in printed
    height, width, _ = pixels(out).shape
    assert width == MARGIN + 4 * (PANEL + MARGIN)
    assert height == 3 * (BAR + LABEL + PANEL + MARGIN) + LABEL + MARGIN  # the legend of prompts
    # Each panel shows something.
    for row in range(3):
        for column in range(4):
            y = row * (BAR + LABEL + PANEL + MARGIN) + BAR + LABEL
            x = MARGIN + column * (PANEL + MARGIN)
            assert pixels(out)[y : y + PANEL, x : x + PANEL].std() > 5


def test_overrides_reach_the_clips_before_and_after_options(data, tmp_path, capsys):
    names = ("plain", "again", "strong", "prompts")
    paths = {name: tmp_path / f"{name}.png" for name in names}
    assert run(capsys, data, "--out", paths["plain"])[0] == 0
    assert run(capsys, data, "--out", paths["again"])[0] == 0
    assert run(capsys, data, "dataset/augment=strong", "--out", paths["strong"])[0] == 0
    assert run(capsys, data, "--out", paths["prompts"], "dataset.prompt_types=[box]")[0] == 0
    pictures = {name: pixels(path) for name, path in paths.items()}
    assert np.array_equal(pictures["plain"], pictures["again"])
    for name in ("strong", "prompts"):
        assert not np.array_equal(pictures["plain"], pictures[name])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["DATA", "--out", "picture.jpg"], "has to end in .png"),
        (["DATA", "--out", "FILE/picture.png"], "cannot be written"),
        (["DATA", "dataset/augment=strongest"], "strongest"),
        (["DATA", "dataset.augment.degrees=400"], "dataset.augment.degrees=400: must be between 0 and 180"),
        (["DATA", "dataset.augment.degree=4"], "dataset.augment.degree"),
        (["nowhere"], "'nowhere': does not exist"),
        (["DATA", "--clips", "0"], "whole number of 1 or more"),
        (["DATA", "--rows", "2"], "unrecognized arguments: --rows"),
    ],
)
def test_what_cannot_be_is_told(data, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    given = [str(data) if each == "DATA" else each.replace("FILE", "file") for each in arguments]
    code, printed = run(capsys, *given)
    assert code == 2
    assert says in printed
    assert "Traceback" not in printed
