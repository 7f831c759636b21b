from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sam2vt.core.data.frames.images import image_size, read_rgb, resize_frame, resize_mask
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


@pytest.mark.parametrize("size", [(20, 31), (64, 80)])
def test_as_stock_resizes_as_the_predictor_does(tmp_path, size):
    """Frames as its loader of images, mask prompts as its `add_new_mask`."""
    from sam2.utils.misc import _load_img_as_tensor

    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    theirs, *_ = _load_img_as_tensor(str(tmp_path / "frame.png"), 48)
    ours = resize_frame(frame, (48, 48), as_stock=True)
    assert ours.flags.writeable  # PyTorch warns of other arrays
    assert np.array_equal(ours, (theirs.permute(1, 2, 0).numpy() * 255).round())
    assert not np.array_equal(ours, resize_frame(frame, (48, 48)))

    mask = cv2.GaussianBlur(rng.random(size), (0, 0), 3) > 0.5
    given = torch.from_numpy(mask)[None, None].float()
    resized = F.interpolate(given, (48, 48), align_corners=False, mode="bilinear", antialias=True)
    assert (resize_mask(mask, (48, 48), as_stock=True) == (resized >= 0.5)[0, 0].numpy()).mean() > 0.999
