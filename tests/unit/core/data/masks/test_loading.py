from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import find_object_ids, known_objects, load_masks, load_void
from sam2vt.core.types import LabelImage, ObjectImages, Segmentations, VideoRecord
from sam2vt.errors import DataError

HEIGHT, WIDTH = 12, 16
COLOURS = (0, 0, 0, 128, 0, 0, 0, 128, 0) + (224, 224, 192) * 253


def labels_with(**boxes):
    """Each id (id_3=...) in the columns of a slice."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, columns in boxes.items():
        labels[2:8, columns] = int(name.removeprefix("id_"))
    return labels


@pytest.fixture
def record(tmp_path):
    """A record whose annotations are these label images (or what is given in their place)."""

    def make(*annotations, coloured=True):
        found = {}
        for i, each in enumerate(annotations):
            if isinstance(each, np.ndarray):
                image = Image.fromarray(each, mode="P" if coloured else "L")
                if coloured:
                    image.putpalette(COLOURS)
                image.save(tmp_path / f"{i:05d}.png")
                found[i] = LabelImage(str(tmp_path / f"{i:05d}.png"))
            elif each is not None:
                found[i] = each
        frames = tuple(f"{i}.jpg" for i in range(len(annotations)))
        return VideoRecord("v", len(frames), HEIGHT, WIDTH, found, frame_paths=frames, source="the/source")

    return make


@pytest.mark.parametrize(
    ("folder", "masks"),
    [
        ("davis17_bmx-trees", "Annotations/bmx-trees"),
        ("davis17_schoolgirls_mp4", "schoolgirls"),
        ("pumavos_chair", "Annotations"),
    ],
)
def test_real_masks_equal_the_pixels_of_the_file(shared_data, folder, masks):
    (record,) = load_records("auto", shared_data / folder)
    paths = sorted((shared_data / folder / masks).glob("*.png"))
    assert len(paths) == record.num_frames
    for index in range(0, record.num_frames, 7):
        with Image.open(paths[index]) as image:
            pixels = np.asarray(image)
        found = load_masks(record, index)
        assert list(found) == sorted(set(np.unique(pixels).tolist()) - {0})
        for object_id, mask in found.items():
            assert mask.dtype == bool
            assert np.array_equal(mask, pixels == object_id)
        assert load_void(record, index) is None


def test_void_is_no_object(record):
    labels = labels_with(id_1=slice(0, 4), id_2=slice(4, 8), id_255=slice(8, 10))
    video = record(labels)
    assert list(load_masks(video, 0)) == [1, 2]
    assert np.array_equal(load_void(video, 0), labels == 255)


def test_void_alone_in_a_coloured_palette(record):
    labels = labels_with(id_255=slice(8, 10))
    video = record(labels)
    assert load_masks(video, 0) == {}
    assert np.array_equal(load_void(video, 0), labels == 255)


def test_a_binary_gray_video_has_one_object(record):
    labels = labels_with(id_255=slice(3, 6))
    video = record(np.zeros_like(labels), labels, coloured=False)
    assert load_masks(video, 0) == {}
    assert np.array_equal(load_masks(video, 1)[1], labels == 255)
    assert load_void(video, 1) is None
    assert find_object_ids(video) == (1,)


def test_void_alone_in_a_gray_video_of_ids(record):
    ids, void = labels_with(id_2=slice(3, 6), id_255=slice(7, 8)), labels_with(id_255=slice(7, 8))
    video = record(ids, void, coloured=False)
    assert list(load_masks(video, 0)) == [2]
    assert load_masks(video, 1) == {}
    assert np.array_equal(load_void(video, 1), void == 255)


def test_objects_in_files_may_overlap(record, tmp_path):
    paths = {}
    for object_id, columns in ((4, slice(0, 6)), (2, slice(3, 9)), (9, slice(0, 0))):
        mask = labels_with(id_255=columns)
        paths[object_id] = str(tmp_path / f"object_{object_id}.png")
        Image.fromarray(mask).save(paths[object_id])
    video = record(ObjectImages(paths))
    masks = load_masks(video, 0)
    assert list(masks) == [2, 4]
    assert (masks[2] & masks[4]).sum() == 18
    assert known_objects(video, 0) == {2, 4, 9}
    assert load_void(video, 0) is None


def test_a_file_of_one_object_with_two_values(record, tmp_path):
    Image.fromarray(labels_with(id_1=slice(0, 3), id_2=slice(5, 7))).save(tmp_path / "o.png")
    video = record(ObjectImages({5: str(tmp_path / "o.png")}))
    with pytest.raises(DataError, match=r"o\.png: the mask of object 5 has the values \[1, 2\]; .*frame 0"):
        load_masks(video, 0)


def test_segmentations_of_an_object_are_united(record):
    polygons = [[[0, 0, 4, 0, 4, 4, 0, 4]], {"size": [HEIGHT, WIDTH], "counts": [100, 5, 87]}]
    video = record(Segmentations({3: polygons, 1: [{"size": [HEIGHT, WIDTH], "counts": [192]}]}))
    masks = load_masks(video, 0)
    assert list(masks) == [3]
    assert masks[3].sum() == 21
    assert load_void(video, 0) is None
    assert known_objects(video, 0) is None


def test_bad_rle_names_file_frame_and_object(record):
    video = record(None, Segmentations({3: [{"size": [HEIGHT, WIDTH], "counts": [100, 5]}]}))
    with pytest.raises(DataError, match=r"the/source: video v, frame 1, object 3: RLE counts sum to 105"):
        load_masks(video, 1)


def test_a_mask_of_another_size_names_both(record):
    video = record(labels_with(id_1=slice(3, 6)), np.ones((HEIGHT, WIDTH + 2), np.uint8))
    load_masks(video, 0)
    for read in (load_masks, load_void):
        with pytest.raises(DataError, match=r"00001\.png: the mask is 18x12.*frame is 16x12.*v, frame 1"):
            read(video, 1)


def test_a_deleted_mask_names_file_and_frame(record, tmp_path):
    video = record(labels_with(id_1=slice(3, 6)))
    (tmp_path / "00000.png").unlink()
    with pytest.raises(DataError, match=r"00000\.png: the mask does not exist.*\(video v, frame 0\)"):
        load_masks(video, 0)


def test_a_frame_without_annotation(record):
    video = record(labels_with(id_1=slice(3, 6)), None, None)
    with pytest.raises(DataError, match=r"the/source: video v: frame 2 is not annotated; 1 of its 3 frames"):
        load_masks(video, 2)


def test_no_object_at_all(record):
    empty = np.zeros((HEIGHT, WIDTH), np.uint8)
    with pytest.raises(DataError, match=r"the/source: video v: the 2 annotated frames show no object"):
        find_object_ids(record(empty, empty))


def test_void_alone_is_said_where_no_object_is_visible(record):
    full = np.full((HEIGHT, WIDTH), 255, np.uint8)
    with pytest.raises(DataError, match="show no object: .* void: in a palette image with colours 255 is"):
        find_object_ids(record(np.zeros_like(full), full))
    assert find_object_ids(record(full, coloured=False)) == (1,)
