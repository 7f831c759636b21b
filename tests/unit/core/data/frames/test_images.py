from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.frames.images import image_size, read_rgb, resize_frame
from sam2vt.errors import DataError


def test_exif_orientation_is_applied_to_size_and_pixels(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert image_size(str(tmp_path / "a.png")) == (16, 8)
    assert np.array_equal(read_rgb(str(tmp_path / "a.png")), np.rot90(pixels, -1))


def test_gray_frames_become_rgb(tmp_path):
    Image.new("L", (5, 4), 9).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(str(tmp_path / "a.png")), np.full((4, 5, 3), 9, np.uint8))


def test_damaged_frames_are_refused_not_filled(tmp_path, shared_data):
    whole = shared_data / "davis17_bmx-trees/JPEGImages/bmx-trees/00000.jpg"
    (tmp_path / "a.jpg").write_bytes(whole.read_bytes()[:20000])
    assert image_size(str(tmp_path / "a.jpg")) == (480, 854)
    with pytest.raises(DataError, match=r"a\.jpg: the frame is damaged"):
        read_rgb(str(tmp_path / "a.jpg"))


def test_sixteen_bit_frames_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the frame has more than 8 bits"):
        read_rgb(str(tmp_path / "a.png"))


def test_missing_frame(tmp_path):
    with pytest.raises(DataError, match=r"a\.jpg: the frame does not exist"):
        read_rgb(str(tmp_path / "a.jpg"))


def test_no_copy_at_the_same_size():
    frame = np.zeros((4, 6, 3), np.uint8)
    assert resize_frame(frame, (4, 6)) is frame
    assert resize_frame(frame, (8, 3)).shape == (8, 3, 3)
