from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam2vt.core.data.masks.labels import is_anti_aliased, object_values, read_labels
from sam2vt.errors import DataError

# 256 entries: with fewer, Pillow writes fewer bits a pixel and 255 is lost.
DAVIS_COLOURS = (0, 0, 0, 128, 0, 0, 0, 128, 0) + (224, 224, 192) * 253


def blobs(ids, size=(120, 160), seed=0, radius=(4, 40)):
    """Label image of overlapping discs."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, dtype=np.uint8)
    for object_id in ids:
        centre = (int(rng.integers(size[1])), int(rng.integers(size[0])))
        cv2.circle(labels, centre, int(rng.integers(*radius)), int(object_id), -1)
    return labels


def save(path, labels, palette=None):
    image = Image.fromarray(labels, mode="P") if palette else Image.fromarray(labels)
    if palette:
        image.putpalette(palette)
    image.save(path)
    return str(path)


def read(path):
    labels = read_labels(path)
    return object_values(labels, path)


def test_palette_images_hold_ids_and_255_is_void(tmp_path):
    labels = blobs([1, 2, 255])
    labels[:3, :9] = [[1] * 3 + [2] * 3 + [255] * 3] * 3
    assert read(save(tmp_path / "a.png", labels, DAVIS_COLOURS)) == {1: 1, 2: 2}
    void_only = np.where(labels == 255, 255, 0).astype(np.uint8)
    assert read(save(tmp_path / "b.png", void_only, DAVIS_COLOURS)) == {}


def test_gray_images_hold_ids_or_one_object(tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 1:3], labels[1:3, 4:6] = 3, 1
    assert read(save(tmp_path / "a.png", labels)) == {1: 1, 3: 3}
    labels[4:] = 255
    assert read(save(tmp_path / "b.png", labels)) == {1: 1, 3: 3}
    binary = np.where(labels == 255, 255, 0).astype(np.uint8)
    assert read(save(tmp_path / "c.png", binary)) == {1: 255}
    gray_ramp = tuple(np.repeat(np.arange(256), 3).tolist())
    assert read(save(tmp_path / "d.png", binary, gray_ramp)) == {1: 255}
    assert read(save(tmp_path / "e.png", np.zeros((4, 4), np.uint8))) == {}


def test_255_is_void_where_the_video_is_not_binary(tmp_path):
    path = save(tmp_path / "a.png", np.full((4, 4), 255, np.uint8))
    assert object_values(read_labels(path), path, binary=False) == {}


def test_one_bit_and_sixteen_bit_images(tmp_path):
    mask = blobs([1]) > 0
    Image.fromarray(mask).convert("1").save(tmp_path / "a.png")
    labels = read_labels(str(tmp_path / "a.png"))
    assert object_values(labels, "a") == {1: 1}
    assert np.array_equal(labels.pixels == 1, mask)
    wide = np.zeros((4, 6), np.uint16)
    wide[0, 0], wide[1, 1], wide[2, 2] = 255, 256, 60000
    assert read(save(tmp_path / "b.png", wide)) == {255: 255, 256: 256, 60000: 60000}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_images_are_refused(tmp_path, mode):
    Image.new(mode, (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a\.png: the mask is a {mode} image; allowed are palette \(P\)"):
        read_labels(str(tmp_path / "a.png"))


@pytest.mark.parametrize("value", [255, 128, 200])
@pytest.mark.parametrize("seed", range(4))
def test_smoothed_masks_are_refused(tmp_path, value, seed):
    binary = np.where(blobs([1, 1], seed=seed) > 0, value, 0).astype(np.uint8)
    width, height = binary.shape[::-1]
    smoothed = {
        "blurred": cv2.GaussianBlur(binary, (5, 5), 0),
        "soft": cv2.GaussianBlur(binary, (31, 31), 0),
        "grown": cv2.resize(binary, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR),
        "shrunk": cv2.resize(binary, (width * 5 // 7, height * 5 // 7), interpolation=cv2.INTER_AREA),
        "cubic": np.asarray(Image.fromarray(binary).resize((97, 73), Image.Resampling.BICUBIC)),
    }
    for name, pixels in smoothed.items():
        path = save(tmp_path / f"{name}.png", pixels)
        with pytest.raises(DataError, match=rf"{name}\.png: the mask looks anti-aliased: \d+ values"):
            read_labels(path)


def test_a_drawn_polygon_with_smooth_edges_is_refused(tmp_path):
    image = Image.new("L", (640, 480))
    ImageDraw.Draw(image).polygon([(40, 30), (600, 90), (320, 450)], fill=255)
    save(tmp_path / "a.png", np.asarray(image.resize((160, 120), Image.Resampling.LANCZOS)))
    with pytest.raises(DataError, match="nearest neighbour"):
        read_labels(str(tmp_path / "a.png"))


def test_a_few_shades_beside_255_are_refused(tmp_path):
    pixels = np.zeros((20, 20), np.uint8)
    pixels[4:16, 4:16], pixels[5:15, 5:15] = 127, 255
    with pytest.raises(DataError, match=r"values 127, 255: 255 beside ids is void, but 127 looks like"):
        read(save(tmp_path / "a.png", pixels))


@pytest.mark.parametrize("ids", [range(1, 8), range(1, 40), (38, 75, 113, 14, 52), (50, 100, 150, 200)])
@pytest.mark.parametrize("radius", [(4, 40), (1, 4)])
def test_label_images_pass(ids, radius):
    for seed in range(30):
        labels = blobs(np.random.default_rng(seed).permutation(list(ids)), seed=seed, radius=radius)
        values = tuple(int(value) for value in np.unique(labels) if value)
        assert not is_anti_aliased(labels, values), seed


def test_real_label_images_pass_in_gray(shared_data):
    folders = ("davis17_schoolgirls_mp4/schoolgirls", "davis17_bmx-trees/Annotations/bmx-trees")
    for folder in folders:
        for path in sorted((shared_data / folder).glob("*.png"))[::8]:
            with Image.open(path) as image:
                labels = np.asarray(image)
            for size in (labels.shape[::-1], (64, 64), (24, 16)):
                small = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
                values = tuple(int(value) for value in np.unique(small) if value)
                assert not is_anti_aliased(small, values), (path, size)


def test_damaged_and_missing_files(tmp_path):
    path = save(tmp_path / "a.png", blobs([1, 2, 3]))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:150])
    with pytest.raises(DataError, match=r"a\.png: the mask is damaged"):
        read_labels(path)
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"a\.png: the mask cannot be opened as an image"):
        read_labels(path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: the mask does not exist"):
        read_labels(path)
