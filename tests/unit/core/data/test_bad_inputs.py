"""What a user can get wrong about data ends in one message that names it; nothing is dropped silently."""

from __future__ import annotations

import errno
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import iterate_frames, read_frames
from sam2vt.core.data.masks.loading import find_object_ids, load_masks
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.errors import DataError

SIZE = (24, 32)


def label(value=1):
    labels = np.zeros(SIZE, np.uint8)
    labels[4:20, 5:25] = value
    return labels


@pytest.fixture
def dataset(tmp_path):
    """JPEGImages/clip and Annotations/clip, three frames, one object."""
    for i in range(3):
        frame, mask = tmp_path / f"JPEGImages/clip/{i}.jpg", tmp_path / f"Annotations/clip/{i}.png"
        for path, pixels in ((frame, np.full((*SIZE, 3), 80, np.uint8)), (mask, label())):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.fixture
def coco(dataset):
    """The same as COCO video JSON, with what `change` does to it; returns its path."""

    def write(change):
        rle = {"size": list(SIZE), "counts": [100, 7, 24 * 32 - 107]}
        data = {
            "images": [{"id": i, "video_id": "clip", "file_name": f"clip/{i}.jpg"} for i in range(3)],
            "annotations": [
                {
                    "id": i,
                    "image_id": i,
                    "track_id": 6,
                    "segmentation": rle,
                }
                for i in range(3)
            ],
            "categories": [],
        }
        change(data)
        path = dataset / "JPEGImages" / "clip.json"
        path.write_text(json.dumps(data))
        return path

    return write


def refusal(call, *arguments, **keywords) -> str:
    with pytest.raises(DataError) as caught:
        call(*arguments, **keywords)
    assert caught.value.exit_code == 2
    return str(caught.value)


def has(message: str, *parts: object) -> None:
    missing = [part for part in map(str, parts) if part not in message]
    assert not missing, f"{missing} is not in: {message}"


def test_wrong_path(tmp_path):
    (tmp_path / "dataset").mkdir()
    message = refusal(load_records, "auto", tmp_path / "datasat")
    has(message, tmp_path / "datasat", "does not exist", f"{tmp_path} holds dataset")
    has(refusal(load_records, "auto", ""), "data_path is empty")


@pytest.mark.parametrize("part", ["JPEGImages/clip", "JPEGImages/clip/1.jpg", "Annotations/clip/1.png", "."])
def test_names_that_are_not_utf8(dataset, part):
    odd = os.fsdecode(b"caf\xe9")
    old = dataset / part
    new = old.with_name(odd + old.suffix)
    old.rename(new)
    message = refusal(load_records, "auto", new if part == "." else dataset)
    has(message, new.parent, "caf\\udce9", "is not UTF-8", "rename it", "convmv")
    message.encode()  # it can be printed, wherever it is


def test_other_names_that_are_not_utf8_do_not_matter(dataset):
    (dataset / os.fsdecode(b"lies\xe9.txt")).write_text("")
    assert len(load_records("auto", dataset)) == 1
    shutil.rmtree(dataset / "Annotations")
    refusal(load_records, "auto", dataset).encode()
    refusal(load_records, "auto", dataset / "nowhere").encode()


def test_a_json_whose_name_is_not_utf8(coco, dataset):
    path = coco(lambda data: None)
    path.rename(path.with_name(os.fsdecode(b"caf\xe9.json")))
    path.parent.rename(dataset / "coco")
    has(refusal(load_records, "auto", dataset / "coco"), "caf\\udce9.json", "is not UTF-8", "rename it")


def forbidden(monkeypatch, name, folder):
    """As for another user than root: a function of os that is not allowed to read a folder."""
    allowed = getattr(os, name)

    def refuse(path, *arguments, **keywords):
        if os.fspath(path) == str(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return allowed(path, *arguments, **keywords)

    monkeypatch.setattr(os, name, refuse)


@pytest.mark.parametrize("part", [".", "JPEGImages", "Annotations/clip"])
def test_folders_that_may_not_be_listed(dataset, monkeypatch, part):
    forbidden(monkeypatch, "scandir", dataset / part)
    has(
        refusal(load_records, "auto", dataset), dataset / part, "Permission denied", "allow your user to read"
    )


def test_a_parent_that_may_not_be_listed(dataset, monkeypatch):
    forbidden(monkeypatch, "listdir", dataset)
    message = refusal(load_records, "auto", dataset / "nowhere")
    has(message, dataset, "Permission denied", "allow your user to read")


def test_a_json_that_may_not_be_read(coco, monkeypatch):
    path = coco(lambda data: None)

    def refuse(*arguments, **keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("builtins.open", refuse)
    message = refusal(load_records, "coco", path)
    has(message, path, "Permission denied", "allow your user to read it")
    assert "write the file anew" not in message


def test_empty_folder(tmp_path):
    message = refusal(load_records, "auto", tmp_path)
    has(message, tmp_path, "holds nothing", "JPEGImages", "mp4", "COCO video JSON")
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    has(refusal(load_records, "auto", tmp_path), tmp_path / "JPEGImages", "empty")


def test_a_video_without_frames(dataset):
    for path in (dataset / "JPEGImages/clip").iterdir():
        path.unlink()
    has(refusal(load_records, "auto", dataset), dataset / "JPEGImages/clip", "no frame in it", ".jpg")


def test_frames_without_masks(dataset):
    shutil.rmtree(dataset / "Annotations/clip")
    has(refusal(load_records, "auto", dataset), dataset / "Annotations", "no folder of masks: clip")
    shutil.rmtree(dataset / "Annotations")
    has(refusal(load_records, "auto", dataset), dataset, "no masks, since there is no Annotations")


def test_masks_saved_as_jpeg(dataset):
    for i in range(3):
        (dataset / f"Annotations/clip/{i}.png").unlink()
        Image.fromarray(label(255)).save(dataset / f"Annotations/clip/{i}.jpg")
    has(refusal(load_records, "auto", dataset), dataset / "Annotations/clip", "0.jpg", "save masks as PNG")


def test_first_mask_of_another_size(dataset):
    Image.fromarray(label()[:-4]).save(dataset / "Annotations/clip/0.png")
    message = refusal(load_records, "auto", dataset)
    has(message, dataset / "Annotations/clip/0.png", "32x20", "32x24", "nearest neighbour")


def test_later_mask_of_another_size(dataset):
    Image.fromarray(label()[:, :-2]).save(dataset / "Annotations/clip/2.png")
    (record,) = load_records("auto", dataset)
    load_masks(record, 0)
    message = refusal(load_masks, record, 2)
    has(message, dataset / "Annotations/clip/2.png", "30x24", "32x24", "video clip, frame 2")


def test_masks_of_another_size_than_their_video(dataset):
    shutil.rmtree(dataset / "JPEGImages/clip")
    write_video(dataset / "JPEGImages/clip.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3, fps=5)
    has(refusal(load_records, "auto", dataset), "Annotations/clip/0.png", "32x24", "64x48", "clip.mp4")


def test_frame_of_another_size(dataset):
    Image.new("RGB", (40, 24)).save(dataset / "JPEGImages/clip/1.jpg")
    (record,) = load_records("auto", dataset)
    message = refusal(read_frames, record, [0, 1])
    has(message, dataset / "JPEGImages/clip/1.jpg", "frame 1 is 40x24", "32x24")
    assert refusal(list, iterate_frames(record)) == message


def test_rgb_mask(dataset):
    Image.fromarray(label()).convert("RGB").save(dataset / "Annotations/clip/1.png")
    message = refusal(load_masks, load_records("auto", dataset)[0], 1)
    has(message, dataset / "Annotations/clip/1.png", "RGB", "palette (P)", "gray", "video clip, frame 1")


def test_anti_aliased_mask(dataset):
    large = Image.fromarray(label(255)).resize((200, 150), Image.Resampling.NEAREST).rotate(20)
    large.resize(SIZE[::-1], Image.Resampling.LANCZOS).save(dataset / "Annotations/clip/1.png")
    message = refusal(load_masks, load_records("auto", dataset)[0], 1)
    has(message, dataset / "Annotations/clip/1.png", "anti-aliased", "object ids", "video clip, frame 1")


def test_ids_beside_a_shade(dataset):
    labels = label(255)
    labels[10:12] = 130
    Image.fromarray(labels).save(dataset / "Annotations/clip/1.png")
    message = refusal(load_masks, load_records("auto", dataset)[0], 1)
    has(message, "1.png", "130, 255", "void", "video clip, frame 1")


def test_zero_objects(dataset):
    for i in range(3):
        Image.fromarray(label(0)).save(dataset / f"Annotations/clip/{i}.png")
    message = refusal(find_object_ids, load_records("auto", dataset)[0])
    has(message, dataset / "JPEGImages/clip", "video clip", "3 annotated frames show no object")


def test_mask_deleted_after_indexing(dataset):
    (record,) = load_records("auto", dataset)
    (dataset / "Annotations/clip/2.png").unlink()
    has(refusal(load_masks, record, 2), dataset / "Annotations/clip/2.png", "does not exist", "frame 2")


def test_frame_deleted_after_indexing(dataset):
    (record,) = load_records("auto", dataset)
    (dataset / "JPEGImages/clip/2.jpg").unlink()
    has(refusal(read_frames, record, [2]), dataset / "JPEGImages/clip/2.jpg", "does not exist")


def test_coco_without_video_id(coco):
    path = coco(lambda data: data["images"][1].pop("video_id"))
    message = refusal(load_records, "coco", path)
    has(message, path, "images[1] (id 1, clip/1.jpg)", "video_id None", "number or name of its video")


def test_coco_naming_missing_files(coco, dataset):
    path = coco(lambda data: data["images"][2].update(file_name="clip/9.jpg"))
    message = refusal(load_records, "coco", path)
    has(message, path, "video clip: 1 of 3 image files", "clip/9.jpg", dataset / "JPEGImages", "image_root")


def test_coco_without_objects(coco):
    path = coco(lambda data: data.update(annotations=[]))
    has(refusal(load_records, "coco", path), path, "video clip", "none of its 3 images has an annotation")


def test_coco_without_identity(coco):
    path = coco(lambda data: data["annotations"][1].pop("track_id"))
    message = refusal(load_records, "coco", path)
    has(message, path, "frame 1: annotation 1", "track_id", "identity=category", "identity=iou")


BEYOND = int("9" * 400)
ALLOWED = "from -9223372036854775808 to 9223372036854775807"


def of_annotation(**fields):
    return lambda data: data["annotations"][1].update(fields)


def of_image(**fields):
    return lambda data: data["images"][1].update(fields)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (of_annotation(track_id=2**63), ("frame 1: annotation 1", "track id 9223372036854775808", ALLOWED)),
        (of_annotation(track_id=-(2**63) - 1), ("frame 1: annotation 1", ALLOWED)),
        (of_annotation(track_id=1e300), ("frame 1: annotation 1", ALLOWED)),
        (of_annotation(track_id=BEYOND), ("frame 1: annotation 1", "number the objects from 1 on")),
        (of_annotation(track_id="\ud800"), ("annotations[1].track_id holds half a character", "anew")),
        (of_image(file_name="clip/\ud800.jpg"), ("images[1].file_name holds half a character", "anew")),
        (of_image(**{"\udfff": 1}), ("a field of images[1] holds half a character", "anew")),
        (of_image(file_name="clip/" + "1" * 5000 + ".jpg"), ("1 of 3 image files do not exist",)),
    ],
)
def test_hostile_values(coco, change, parts):
    path = coco(change)
    has(refusal(load_records, "coco", path), path, *parts)


@pytest.mark.parametrize("digits", [4301, 5000, 100_000])
def test_numbers_too_long_for_python(coco, digits):
    path = coco(of_annotation(track_id="LONG"))
    path.write_text(path.read_text().replace('"LONG"', "1" * digits))
    message = refusal(load_records, "coco", path)
    has(message, path, "number")
    assert "set_int_max_str_digits" not in message


def test_a_category_beyond_all_ids(coco):
    path = coco(lambda data: [each.update(category_id=2**63) for each in data["annotations"]])
    message = refusal(load_records, "coco", path, identity="category")
    has(message, path, "frame 0: annotation 0 has category_id 9223372036854775808", ALLOWED)


@pytest.mark.parametrize("name", ["--5", "-", "1" * 5000, "9223372036854775808", "\u00b2", "-1.5"])
def test_odd_track_ids_are_names(coco, name):
    (record,) = load_records("coco", coco(of_annotation(track_id=name)))
    assert record.object_ids == (1, 2)
    assert set(record.object_names.values()) == {"6", name}


def test_names_with_characters_beyond_16_bits(coco):
    """JSON escapes them as pairs, each half of which is none."""
    path = coco(of_annotation(track_id="\U0001f600"))
    assert "\\ud83d\\ude00" in path.read_text()
    (record,) = load_records("coco", path)
    assert "\U0001f600" in record.object_names.values()


def test_a_folder_of_masks_named_beyond_all_ids(dataset):
    for name in ("1", "9" * 30):
        shutil.copytree(dataset / "Annotations/clip", dataset / "of_objects" / name)
    shutil.rmtree(dataset / "Annotations/clip")
    (dataset / "of_objects").rename(dataset / "Annotations/clip")
    message = refusal(load_records, "auto", dataset)
    has(message, dataset / "Annotations/clip", f"a folder of masks is named {'9' * 30}", ALLOWED)


@pytest.mark.parametrize(
    ("segmentation", "parts"),
    [
        ({"size": [24, 32], "counts": [100, 7, 60]}, ("counts sum to 167", "24 x 32 = 768")),
        ({"size": [24, 32], "counts": [800, -40, 8]}, ("count 1 is negative (-40)", "768")),
        ({"size": [32, 24], "counts": [768]}, ("RLE size is [32, 24]", "[24, 32]")),
        ({"size": [24, 32], "counts": "zz"}, ("outside '0' to 'o' at position 0", "768")),
        ([[1, 2, 3, 4, 5]], ("polygon 0 has 5 numbers", "even count of at least 6")),
        ([[1, 2, 3, 4]], ("polygon 0 has 4 numbers", "even count of at least 6")),
        ([[1, 2, 3, BEYOND, 5, 6]], ("polygon 0 has y = 999", "0 to 24")),
        ({"size": [24, BEYOND], "counts": [768]}, ("RLE size is [24, 999", "[24, 32]")),
        ({"size": [24, 32], "counts": [BEYOND]}, ("a number larger than any image", "768")),
    ],
)
def test_bad_segmentations(coco, segmentation, parts):
    path = coco(lambda data: data["annotations"][2].update(segmentation=segmentation))
    (record,) = load_records("coco", path)
    load_masks(record, 1)
    has(refusal(load_masks, record, 2), path, "video clip, frame 2, object 6", *parts)
