"""Masks in colours: an object a class, by an explicit table."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt import cli
from sam2vt.config import DatasetConfig
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks, load_void
from sam2vt.core.data.opening import open_records
from sam2vt.errors import ConfigError

SIZE = (24, 32)
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)
TABLE = {"tool": RED, "tissue": GREEN, "void": WHITE}


def write(path, regions=((np.s_[2:8, 2:8], RED), (np.s_[10:20, 2:8], GREEN), (np.s_[:2], WHITE)), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    for region, colour in regions:
        pixels[region] = colour
    image = Image.fromarray(pixels)
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(path)


@pytest.fixture
def coloured(tmp_path, frame):
    for i in range(2):
        frame(tmp_path / f"JPEGImages/a/{i}.jpg")
        write(tmp_path / f"Annotations/a/{i}.png", mode="P" if i else "RGB")
    return tmp_path


def test_an_object_a_class(coloured):
    (record,) = load_records("auto", coloured, colours=TABLE)
    assert record.object_names == {1: "tool", 2: "tissue"}
    for frame in range(2):
        pixels = np.asarray(Image.open(coloured / f"Annotations/a/{frame}.png").convert("RGB"))
        masks = load_masks(record, frame)
        assert sorted(masks) == [1, 2]
        assert np.array_equal(masks[1], (pixels == RED).all(axis=2))
        assert np.array_equal(masks[2], (pixels == GREEN).all(axis=2))
        assert np.array_equal(load_void(record, frame), (pixels == WHITE).all(axis=2))


def test_from_a_configuration_and_the_command_line(coloured, capsys):
    table = {name: list(colour) for name, colour in TABLE.items()}
    (record,) = open_records(DatasetConfig(data_path=str(coloured), colours=table))
    assert record.object_ids == (1, 2)
    colours = [f"{name}={','.join(map(str, colour))}" for name, colour in TABLE.items()]
    cli.main(["validate", str(coloured), "--colours", *colours])
    assert "no fault found" in capsys.readouterr().out


def test_without_a_table_colours_are_refused(coloured, check_bad_input):
    check_bad_input(coloured, ("0.png", "RGB image"), "dataset.colours")


def put(*regions, mode="RGB"):
    return lambda root: write(root / "Annotations/a/0.png", regions, mode)


def wrong_size(root):
    Image.new("RGB", (9, 9)).save(root / "Annotations/a/1.png")


def transparent(root):
    Image.fromarray(np.zeros((*SIZE, 4), np.uint8)).save(root / "Annotations/a/0.png")


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (put((np.s_[3:5, 6:9], (9, 9, 9))), ("0.png", "x=6, y=3", "(9, 9, 9)", "6 pixels"), "add its class"),
        (put((np.s_[3:5], RED), mode="L"), ("0.png", "L image"), "leave dataset.colours (--colours) out"),
        (lambda root: (root / "Annotations/a/0.png").write_bytes(b"x"), ("0.png", "cannot be opened"), ""),
        (lambda root: write(root / "Annotations/a/7.png"), ("1 of 3 masks", "7"), "named as their frames"),
        (put((np.s_[3:5], RED), mode="LA"), ("0.png", "LA image"), "leave dataset.colours (--colours) out"),
        (transparent, ("0.png", "transparent pixels"), "without alpha"),
        (wrong_size, ("1.png", "9x9"), "resize"),
    ],
)  # fmt: skip
def test_bad_masks(coloured, check_bad_input, change, says, remedy):
    change(coloured)
    check_bad_input(coloured, says, remedy, colours=TABLE)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": (1, 2)}, r"a is \(1, 2\); a colour is three numbers"),
        ({"a": (1, 2, 300)}, "three numbers from 0 to 255"),
        ({"a": RED, "b": RED}, "two classes have the same colour"),
        ({"background": RED}, "no class is in it besides background and void"),
    ],
)
def test_bad_tables(coloured, table, message):
    with pytest.raises(ConfigError, match=message):
        load_records("auto", coloured, colours=table)
