"""Predicted masks as PNGs: they read back as they were predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.evaluation.mask_files import MaskFolder
from sam2vt.errors import DataError

NO_IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(("second", "mode"), [(2, "P"), (254, "P"), (255, "I;16"), (65535, "I;16")])
def test_masks_read_back(make_record, tmp_path, second: int, mode: str) -> None:
    record = make_record([np.ones((20, 30), dtype=np.uint8)] * 2, video_id="a")
    record = replace(record, video_id="set/a", object_ids=(1, second))
    first, other = np.zeros((2, 20, 30), dtype=bool)
    first[:5], other[10:, 20:] = True, True
    write = MaskFolder(tmp_path / "masks", [record]).writer(record)
    write(0, NO_IMAGE, {}, {})
    write(1, NO_IMAGE, {1: first, second: other}, {})
    for stem, expected in (("00000", first * 0), ("00001", first + second * other)):
        with Image.open(tmp_path / "masks" / "set_a" / f"{stem}.png") as image:
            assert image.mode == mode
            assert np.array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("object_id", [0, -1, 65536])
def test_ids_that_are_no_pixel_values_are_refused(make_record, tmp_path, object_id: int) -> None:
    record = replace(make_record([np.ones((20, 30), dtype=np.uint8)] * 2), object_ids=(1, object_id))
    with pytest.raises(DataError, match=rf"video, object {object_id}: .*1 to 65535.*leave --save-masks out"):
        MaskFolder(tmp_path / "masks", [record]).writer(record)


def test_two_videos_of_one_name_are_refused(make_record, tmp_path) -> None:
    record = make_record([np.ones((20, 30), dtype=np.uint8)] * 2)
    records = [replace(record, video_id=name) for name in ("a/b", "a_b")]
    with pytest.raises(DataError, match="two videos would be written as a_b"):
        MaskFolder(tmp_path / "masks", records)
