"""From one layout to another and back: masks, ids and annotated frames stay; so do frames that are images."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.packed import open_packed
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.masks.loading import find_object_ids, known_objects, load_masks, load_void
from sam2vt.core.data.writing.conversion import ConvertOptions, Losses
from sam2vt.core.data.writing.convert import convert
from sam2vt.core.data.writing.pack import PackOptions, pack
from sam2vt.core.data.writing.sav import MaskletVideo, _masks_of, write_masklets
from sam2vt.core.types import LabelImage, MaskletFrame, ObjectImages, VideoRecord

PALETTE = [0, 0, 0, *(200, 0, 0) * 255]  # of all values: a shorter one would cut large ones
EVERY_FOURTH = range(0, 10, 4)
IRREGULAR = (0, 1, 5, 9)


def through(records, targets, folder):
    """The records at the end of a chain of conversions."""
    for number, target in enumerate(targets):
        out = folder / f"{number}_{target}"
        convert(records, str(out), target)
        records = load_records("auto", out)
    return records


@pytest.mark.parametrize(
    ("targets", "annotated"),
    [
        (("coco", "davis"), range(10)),
        (("coco", "davis"), IRREGULAR),
        (("sav", "davis"), range(10)),
        (("sav", "davis"), EVERY_FOURTH),
        (("sav", "coco", "sav", "davis"), EVERY_FOURTH),
        (("davis-objects", "coco", "davis"), IRREGULAR),
        (("davis-objects", "sav"), EVERY_FOURTH),
    ],
)
@pytest.mark.parametrize("mp4", [False, True])
def test_masks_are_equal(davis, tmp_path, assert_same_masks, targets, annotated, mp4):
    records = load_records("auto", davis(annotated, mp4))
    found = through(records, targets, tmp_path)
    assert_same_masks(records, found)
    assert [find_object_ids(each) for each in found] == [(1, 2, 5)] * 2


@pytest.mark.parametrize("targets", [("coco", "davis"), ("sav", "davis"), ("coco",), ("sav",)])
def test_real_masks_are_equal(shared_data, tmp_path, assert_same_masks, targets):
    records = load_records("auto", shared_data / "davis17_bmx-trees")
    assert_same_masks(records, through(records, targets, tmp_path))


def test_real_masks_of_seven_objects(shared_data, tmp_path, assert_same_masks):
    """A video file with masks beside it becomes a tree of images."""
    records = load_records("auto", shared_data / "davis17_schoolgirls_mp4")
    found = through(records, ("davis",), tmp_path)
    assert_same_masks([replace(each, video_id=found[0].video_id) for each in records], found)


def test_images_stay_as_they_are(davis, tmp_path):
    """Byte for byte, with the names that they had."""
    root = davis(IRREGULAR)
    through(load_records("auto", root), ("coco", "davis"), tmp_path)
    for path in (root / "JPEGImages").rglob("*.jpg"):
        assert (tmp_path / "1_davis" / path.relative_to(root)).read_bytes() == path.read_bytes()
    masks = sorted(path.name for path in (tmp_path / "1_davis/Annotations/a").iterdir())
    assert masks == ["0000.png", "0005.png", "0025.png", "0045.png"]


def test_a_pack_converts_as_its_source(davis, tmp_path):
    records = load_records("auto", davis(EVERY_FOURTH, mp4=True))
    pack(records, str(tmp_path / "pack"), PackOptions(segment_frames=4), workers=1)
    for target in ("coco", "davis-objects", "sav"):
        for name, data in (("source", records), ("packed", open_packed(str(tmp_path / "pack")))):
            # A pack does not know the names that frames had.
            renamed = [replace(each, frame_paths=each.frame_paths) for each in data]
            convert(renamed, str(tmp_path / target / name), target)
        source, packed = (
            sorted(
                path.read_bytes()
                for path in (tmp_path / target / name).rglob("*.*")
                if path.suffix != ".json"
            )
            for name in ("source", "packed")
        )
        assert source == packed


def test_videos_lose_nothing_as_png(davis, tmp_path):
    records = load_records("auto", davis(mp4=True))
    convert(records, str(tmp_path / "png"), "davis", ConvertOptions(encode="png"))
    for source, found in zip(records, load_records("auto", tmp_path / "png"), strict=True):
        for a, b in zip(iterate_frames(source), iterate_frames(found), strict=True):
            assert np.array_equal(a, b)


def test_an_mp4_is_copied_and_frames_are_linked(davis, tmp_path):
    root = davis(EVERY_FOURTH, mp4=True)
    convert(load_records("auto", root), str(tmp_path / "sav"), "sav")
    assert (tmp_path / "sav/b.mp4").read_bytes() == (root / "JPEGImages/b.mp4").read_bytes()
    convert(load_records("auto", root), str(tmp_path / "linked"), "coco", ConvertOptions(link=True))
    linked = tmp_path / "linked/frames/a/0005.jpg"
    assert linked.samefile(root / "JPEGImages/a/0005.jpg")
    assert not linked.is_symlink()


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64)])
def test_odd_sizes_stay(davis, tmp_path, assert_same_masks, size):
    records = load_records("auto", davis(EVERY_FOURTH, size=size))
    found = through(records, ("sav",), tmp_path)
    assert_same_masks(records, found)
    probe = probe_video(tmp_path / "0_sav/a.mp4")
    assert (probe.height, probe.width, probe.num_frames) == (*size, 10)


def test_overlaps_and_unknown_objects_fit_into_folders_of_objects(tmp_path, assert_same_masks):
    """And what is known of each object on each frame, void included."""
    frames, annotations = [], {}
    (tmp_path / "source").mkdir()
    for i in range(6):
        frames.append(str(tmp_path / f"source/{i}.png"))
        Image.fromarray(np.full((24, 32, 3), i, np.uint8)).save(frames[-1])
        paths = {}
        for key in (3, 4, 300):
            if key != 4 or i % 2:
                labels = np.zeros((24, 32), np.uint8)
                labels[2 : 10 + i, key % 7 : 20] = 1
                labels[-2:] = 255
                image = Image.fromarray(labels if key != 300 or i < 3 else 0 * labels, mode="P")
                image.putpalette(PALETTE)
                paths[key] = str(tmp_path / f"source/{i}_{key}.png")
                image.save(paths[key])
        annotations[i] = ObjectImages(paths)
    record = VideoRecord(
        "v", 6, 24, 32, annotations, frame_paths=tuple(frames), object_ids=(3, 4, 300), source="source"
    )
    (found,) = through([record], ("davis-objects",), tmp_path)
    assert_same_masks([record], [found])
    assert found.object_ids == (3, 4, 300)
    for frame in annotations:
        assert known_objects(found, frame) == known_objects(record, frame)
        assert np.array_equal(load_void(found, frame), load_void(record, frame))


def test_void_and_large_ids_in_label_images(davis, tmp_path):
    records = load_records("auto", davis(IRREGULAR, void=True))
    for source, found in zip(records, through(records, ("davis",), tmp_path), strict=True):
        assert all(np.array_equal(load_void(source, i), load_void(found, i)) for i in IRREGULAR)
    labels = np.zeros((48, 64), np.uint16)
    labels[5:9], labels[20:] = 1005, 2
    Image.fromarray(labels).save(tmp_path / "deep.png")
    deep = [replace(records[0], annotations={3: LabelImage(str(tmp_path / "deep.png"))})]
    (found,) = through(deep, ("davis",), tmp_path / "deep")
    assert list(load_masks(found, 3)) == [2, 1005]
    assert np.array_equal(load_masks(found, 3)[1005], labels == 1005)


def test_frames_of_16_bits_become_what_a_training_sees(tmp_path, davis):
    (source, _) = load_records("auto", davis())
    paths = tuple(str(tmp_path / f"{i}.tif") for i in range(10))
    for i, path in enumerate(paths):
        Image.fromarray(np.full((48, 64), 500 * i, np.uint16)).save(path)
    deep = replace(source, frame_paths=paths, intensity_range=(0, 4500))
    (found,) = through([deep], ("davis",), tmp_path)
    for a, b in zip(iterate_frames(deep), iterate_frames(found), strict=True):
        assert np.array_equal(a, b)


def test_coco_entries(davis, tmp_path):
    """As COCO's own tools take them, with names of objects as categories."""
    records = load_records("auto", davis(IRREGULAR))
    named = [replace(records[0], object_names={1: "dog", 2: "cat", 5: "dog"}), records[1]]
    convert(named, str(tmp_path / "coco"), "coco")
    content = json.loads((tmp_path / "coco/annotations.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert list(names.values()) == ["cat", "dog", "object"]
    for key in ("images", "annotations"):
        assert [each["id"] for each in content[key]] == list(range(1, len(content[key]) + 1))
    images = {each["id"]: each for each in content["images"]}
    flagged = [each["order_in_video"] for each in images.values() if each["is_annotated"]]
    assert flagged == [*IRREGULAR, *IRREGULAR]
    for each in content["annotations"]:
        image = images[each["image_id"]]
        record = {record.video_id: record for record in records}[image["video_id"]]
        mask = load_masks(record, image["order_in_video"])[each["track_id"]]
        assert np.array_equal(coco_mask.decode(each["segmentation"]), mask)
        assert each["area"] == mask.sum()
        assert each["bbox"] == coco_mask.toBbox(each["segmentation"]).tolist()
        expected = {1: "dog", 2: "cat", 5: "dog"}[each["track_id"]] if record.video_id == "a" else "object"
        assert (names[each["category_id"]], each["video_id"]) == (expected, record.video_id)


def test_sav_masklets_by_pycocotools(davis, tmp_path):
    records = load_records("auto", davis(EVERY_FOURTH))
    convert(records, str(tmp_path / "sav"), "sav")
    content = json.loads((tmp_path / "sav/a_manual.json").read_text())
    assert content["masklet_id"] == [0, 1, 4]
    for place, frame in enumerate(EVERY_FOURTH):
        masks = load_masks(records[0], frame)
        for key, rle in zip((1, 2, 5), content["masklet"][place], strict=True):
            assert np.array_equal(
                coco_mask.decode(rle).astype(bool), masks.get(key, np.zeros((48, 64), bool))
            )


def test_sav_fields_are_those_of_a_real_file(shared_data, tmp_path):
    """Our numbers of its masks are its numbers; of some fields only people know the content."""
    path = shared_data / "sav_json_only/sav_000001_manual.json"
    real = json.loads(path.read_text())
    annotations = {4 * place: MaskletFrame((str(path),), place) for place in range(121)}
    record = VideoRecord(
        "sav_000001",
        483,
        848,
        480,
        annotations,
        video_path="none.mp4",
        object_ids=(1, 2, 3, 4, 5),
        source="s",
    )
    video = MaskletVideo("sav_000001", 483, (848, 480), 24.0, record.object_ids, {})
    write_masklets(tmp_path / "sav.json", video, _masks_of(record, Losses("sav", False)))
    ours = json.loads((tmp_path / "sav.json").read_text())
    assert ours.keys() == real.keys()
    told_by_people = {"video_environment", "video_split", "masklet_edited_frame_count"}
    for name in ours.keys() - told_by_people:
        assert type(ours[name]) is type(real[name])
        if name in ("masklet_size_rel", "masklet_size_abs"):
            assert ours[name] == pytest.approx(real[name], rel=1e-6)
        elif name == "masklet":
            decoded = [
                [coco_mask.decode(each) for frame in file[name] for each in frame] for file in (ours, real)
            ]
            assert np.array_equal(*decoded)
        else:
            assert ours[name] == real[name]


NAMED = {1: "grasper", 2: "cystic_duct", 5: "clip applier"}


@pytest.mark.parametrize("target", ["davis", "davis-objects", "coco", "sav"])
def test_names_stay(davis, tmp_path, assert_same_masks, target):
    records = [replace(each, object_names=NAMED) for each in load_records("auto", davis())]
    found = through(records, [target], tmp_path)
    assert [each.object_names for each in found] == [NAMED, NAMED]
    assert_same_masks(records, found)


def test_objects_without_names_need_no_meta(davis, tmp_path):
    convert(load_records("auto", davis()), str(tmp_path / "out"), "davis")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["Annotations", "JPEGImages"]
