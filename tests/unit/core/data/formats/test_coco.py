from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.errors import DataError

SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]


@pytest.fixture
def coco(tmp_path, frame):
    """Writes a JSON of one video; `change` edits the content before it is written."""

    def write(num_frames=4, change=None, files=True):
        images = [
            {"id": 10 + i, "video_id": 1, "file_name": f"{i}.jpg", "height": 24, "width": 32}
            for i in range(num_frames)
        ]
        annotations = [
            {"id": 100 + i, "image_id": 10 + i, "category_id": 1, "track_id": 5, "segmentation": SQUARE}
            for i in range(num_frames)
        ]
        data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "tool"}]}
        if change:
            change(data)
        for image in data.get("images", []) if files else []:
            frame(tmp_path / image.get("path", image["file_name"]))
        (tmp_path / "video.json").write_text(json.dumps(data))
        return tmp_path

    return write


def test_json_or_its_folder(coco):
    root = coco()
    (record,) = load_records("coco", root)
    assert (record.video_id, record.num_frames, record.height, record.width) == ("1", 4, 24, 32)
    assert record.object_ids == (5,)
    assert record.frame_paths == tuple(str(root / f"{i}.jpg") for i in range(4))
    assert load_records("auto", root / "video.json") == [record]


def test_polygons_equal_pycocotools(coco):
    (record,) = load_records("coco", coco())
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(SQUARE, 24, 32))).astype(bool)
    assert np.array_equal(load_masks(record, 2)[5], expected)


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_equals_pycocotools(coco, compressed):
    mask = np.random.default_rng(0).random((24, 32)) < 0.3
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        counts = rle["counts"].decode()
    else:
        flat = np.concatenate([[0], mask.T.ravel().astype(int), [-1]])
        edges = np.flatnonzero(np.diff(flat))
        counts = np.diff(np.concatenate([[0], edges + 0])).tolist()
    segmentation = {"size": [24, 32], "counts": counts}
    root = coco(change=lambda data: data["annotations"][1].update(segmentation=segmentation))
    assert np.array_equal(load_masks(load_records("coco", root)[0], 1)[5], mask)


@pytest.mark.parametrize("folder", ["ann", "annotation", "annotations", "Annotations", "."])
@pytest.mark.parametrize("images", ["frames", "images", "JPEGImages", "frames/train", "images/train"])
def test_a_json_beside_the_folder_of_the_frames(coco, tmp_path, folder, images):
    root = coco()
    (root / folder).mkdir(exist_ok=True)
    (root / images).mkdir(parents=True)
    (root / "video.json").rename(root / folder / "instances_train.json")
    for i in range(4):
        (root / f"{i}.jpg").rename(root / images / f"{i}.jpg")
    (record,) = load_records("auto", root)
    assert record.frame_paths == tuple(str(root / images / f"{i}.jpg") for i in range(4))
    assert load_records("coco", root / folder / "instances_train.json") == [record]


def test_other_files_in_ann_are_none_of_coco(coco, tmp_path, frame):
    root = coco(files=False)
    (root / "ann").mkdir()
    for i in range(3):
        (root / "ann" / f"{i}.json").write_text('{"shapes": []}')
        frame(root / "frames" / f"{i}.jpg")
    frame(root / "frames/3.jpg")
    assert load_records("auto", root)[0].num_frames == 4
    (root / "video.json").unlink()
    with pytest.raises(DataError, match="is no dataset of type coco"):
        load_records("coco", root)


@pytest.mark.parametrize("field", ["order_in_video", "frame_id"])
def test_order_of_frames(coco, field):
    def change(data):
        for i, image in enumerate(data["images"]):
            image[field] = 100 - 10 * i

    (record,) = load_records("coco", coco(change=change))
    assert [path[-5] for path in record.frame_paths] == ["3", "2", "1", "0"]


def test_order_by_name_counts_numbers(coco):
    def change(data):
        for image, name in zip(data["images"], ("f10", "f9", "f100", "f1")):
            image.update(file_name=f"{name}.jpg", order_in_video=None)

    (record,) = load_records("coco", coco(change=change))
    assert [path.split("/f")[-1] for path in record.frame_paths] == ["1.jpg", "9.jpg", "10.jpg", "100.jpg"]
    assert load_records("coco", record.source)[0].annotated_frames == [0, 1, 2, 3]


def test_video_ids_may_be_numbers_or_names(coco):
    def change(data):
        for image, video in zip(data["images"], ("b", "a", 7, "b")):
            image["video_id"] = video

    records = load_records("coco", coco(change=change))
    assert [(record.video_id, record.num_frames) for record in records] == [("7", 1), ("a", 1), ("b", 2)]


def test_path_and_image_root(coco, tmp_path, frame):
    root = coco(change=lambda data: data["images"][0].update(path="deep/er/x0.jpg"))
    assert load_records("coco", root)[0].frame_paths[3].endswith("deep/er/x0.jpg")
    coco(files=False)
    for i in range(4):
        frame(tmp_path / f"elsewhere/{i}.jpg")
    (record,) = load_records("coco", root, image_root=str(tmp_path / "elsewhere"))
    assert record.frame_paths[0] == str(tmp_path / "elsewhere/0.jpg")


def test_a_flag_tells_empty_from_not_annotated(coco):
    def change(data):
        data["annotations"] = data["annotations"][:1]
        data["images"][2]["is_det_keyframe"] = True
        data["images"][3]["is_det_keyframe"] = False

    (record,) = load_records("coco", coco(change=change))
    assert record.annotated_frames == [0, 2]
    assert load_masks(record, 2) == {}


def test_crowd_regions_without_a_track_are_left_out_and_said(coco, caplog):
    def change(data):
        del data["annotations"][3]["track_id"]
        data["annotations"][3].update(iscrowd=1)

    root, notes = coco(change=change), []
    (record,) = load_records("coco", root)
    assert record.annotated_frames == [0, 1, 2]
    assert "1 of 4 annotations are left out: crowd regions" in caplog.text
    caplog.clear()
    load_records("coco", root, notes=notes)
    assert [("set iscrowd to 0" in note) for note in notes] == [True]
    assert "are left out" not in caplog.text


@pytest.mark.parametrize("identity", ["error", "category", "iou"])
def test_a_mask_that_cvat_calls_a_crowd_is_its_object(coco, identity):
    """Its exporter writes iscrowd=1 beside each RLE."""

    def change(data):
        for annotation in data["annotations"]:
            track = annotation.pop("track_id")
            annotation.update(attributes={"occluded": False, "track_id": track, "keyframe": True}, iscrowd=1)

    notes = []
    (record,) = load_records("coco", coco(change=change), identity=identity, notes=notes)
    assert record.annotated_frames == [0, 1, 2, 3]
    assert [len(load_masks(record, i)) for i in range(4)] == [1] * 4
    assert notes == []


def test_file_names_of_another_system(coco):
    root = coco(change=lambda data: [each.update(file_name="e\u0301.jpg") for each in data["images"][:1]])
    (root / "e\u0301.jpg").rename(root / "\u00e9.jpg")
    (record,) = load_records("coco", root)
    assert record.frame_paths[-1] == str(root / "\u00e9.jpg")


def test_file_names_with_backslashes(coco):
    def change(data):
        for image in data["images"]:
            image["file_name"] = f"clips/{image['file_name']}"

    root = coco(change=change)
    text = (root / "video.json").read_text()
    (root / "video.json").write_text(text.replace("clips/", "clips\\\\"))
    (record,) = load_records("coco", root)
    assert record.frame_paths[3] == str(root / "clips/3.jpg")
    (root / "video.json").write_text(text.replace("clips/", "..\\\\..\\\\"))
    with pytest.raises(DataError, match="is outside"):
        load_records("coco", root)


def set_image(**fields):
    return lambda data: data["images"][2].update(fields)


def set_annotation(**fields):
    return lambda data: data["annotations"][2].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["images"][2].pop("video_id"), r"images\[2\] \(id 12, 2\.jpg\) has video_id None;"),
        (set_image(id=11), r"two images have the id 11"),
        (set_image(frame_id=1), r"image 10 has frame_id None, others of the video have numbers"),
        (set_image(height=25), r"image 12 states height x width 25 x 32, but .*0\.jpg is 24 x 32"),
        (
            set_image(height=10**400, width="wide"),
            r"states height x width 10{19} x wide, but .* is 24 x 32; masks",
        ),
        (set_annotation(image_id=99), r"annotations\[2\] \(id 102\) belongs to image 99, which images does"),
        (
            set_annotation(image_id="x12"),
            r"belongs to image 'x12', which images does not list \(ids are 10, 11",
        ),
        (set_annotation(image_id=12.5), r"belongs to image 12\.5, which images does not list"),
        (set_image(frame_id="first"), r"image 10 has frame_id None"),
        (set_annotation(segmentation=[]), r"annotations\[2\] \(id 102\) of image 12 has no segmentation"),
        (lambda data: data.update(annotations=[]), r"video 1: none of its 4 images has an annotation"),
        (lambda data: data.update(images=[]), r"images is empty"),
        (
            lambda data: data.pop("images"),
            r"lacks the list\(s\) images; it holds the keys annotations, categ",
        ),
        (set_annotation(track_id=True), r"frame 2: annotation 102 has the track id 'True', a bool; allowed"),
        (set_annotation(track_id=1.5), r"frame 2: annotation 102 has the track id '1\.5', a float; allowed"),
        (set_annotation(track_id=[7]), r"frame 2: annotation 102 has the track id '\[7\]', a list; allowed"),
        (
            lambda data: [each.update(iscrowd=1, track_id=None) for each in data["annotations"]],
            r"none of its 4 images has an annotation of an object \(iscrowd=1 without a track id is none\)",
        ),
        (lambda data: data["annotations"].append("x"), r"annotations\[4\] is 'x', not an object"),
    ],
)
def test_faults_are_named(coco, change, message):
    with pytest.raises(DataError, match=message):
        load_records("coco", coco(change=change, files=True))


def test_numbers_that_a_table_made_floats_or_text(coco):
    def change(data):
        for place, image in enumerate(data["images"]):
            image["order_in_video"] = str(11 - place)  # 8 to 11: as text, 10 would come before 8
        for annotation in data["annotations"]:
            annotation["image_id"] = float(annotation["image_id"])

    (record,) = load_records("coco", coco(change=change))
    assert [Path(each).name for each in record.frame_paths] == ["3.jpg", "2.jpg", "1.jpg", "0.jpg"]
    assert sorted(record.annotations) == [0, 1, 2, 3]


def test_equal_places_in_the_order_are_refused(coco):
    with pytest.raises(DataError, match="two images have order_in_video 3"):
        load_records(
            "coco", coco(change=lambda data: [image.update(order_in_video=3) for image in data["images"]])
        )


def test_missing_files_are_named(coco):
    root = coco()
    (root / "1.jpg").unlink()
    (root / "3.jpg").unlink()
    with pytest.raises(
        DataError, match=rf"video 1: 2 of 4 image files do not exist: 1\.jpg, 3\.jpg; .*{root}"
    ):
        load_records("coco", root)


def test_several_json_files_are_listed(coco):
    root = coco()
    (root / "other.json").write_text("{}")
    with pytest.raises(DataError, match=r"several JSON files \(other\.json, video\.json\)"):
        load_records("coco", root)


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read as JSON"), ("[1]", "it holds a list")])
def test_what_is_no_coco(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_records("auto", tmp_path)


def test_masklets_are_named_where_coco_is_asked_for(shared_data):
    with pytest.raises(DataError, match="this is an SA-V masklet file, not COCO: set dataset.dataset_type"):
        load_records("coco", shared_data / "sav_json_only" / "sav_000001_manual.json")


def test_real_keyframes(shared_data):
    (record,) = load_records("auto", shared_data / "endoscapes_coco", identity="category")
    assert (record.video_id, record.num_frames, record.height, record.width) == ("4", 120, 480, 854)
    assert record.annotated_frames == [29, 59, 89, 119]
    assert record.object_names[6] == "tool"
    data = json.loads((shared_data / "endoscapes_coco/sample_annotations.json").read_text())
    frames = {image["id"]: image["order_in_video"] for image in data["images"]}
    expected: dict[int, dict[int, np.ndarray]] = {}
    for each in data["annotations"]:
        of_frame = expected.setdefault(frames[each["image_id"]], {})
        mask = coco_mask.decode(each["segmentation"]).astype(bool)
        of_frame[each["category_id"]] = of_frame.get(each["category_id"], False) | mask
    for index in record.annotated_frames:
        masks = load_masks(record, index)
        assert masks.keys() == expected[index].keys()
        assert all(np.array_equal(masks[key], expected[index][key]) for key in masks)


def test_frames_have_the_size_of_the_json(shared_data):
    (record,) = load_records("coco", shared_data / "endoscapes_coco", identity="iou")
    with Image.open(record.frame_paths[29]) as image:
        assert image.size == (record.width, record.height)


def test_a_video_id_as_number_and_as_text_is_refused(coco):
    def change(data):
        data["images"][2]["video_id"] = "1"

    with pytest.raises(DataError, match="video_id 1 as a number and as a text"):
        load_records("coco", coco(change=change))


def test_video_ids_may_be_text_beside_numbers(coco):
    def change(data):
        for image in data["images"][2:]:
            image["video_id"] = "b"

    assert [record.video_id for record in load_records("coco", coco(change=change))] == ["1", "b"]


def text_ids(data):
    for each in data["annotations"]:
        each["image_id"], each["category_id"] = str(each["image_id"]), "1"


def number_ids(data):
    for image in data["images"]:
        image["id"] = str(image["id"])


@pytest.mark.parametrize("change", [text_ids, number_ids])
def test_ids_as_text_and_as_number_are_the_same(coco, change):
    (record,) = load_records("auto", coco(change=change))
    assert sorted(record.annotations) == [0, 1, 2, 3]
    assert record.object_names == {5: "tool"}


def test_ids_that_are_both_stay_apart(coco):
    def change(data):
        data["images"][0]["id"], data["images"][1]["id"] = "7", 7
        data["annotations"][0]["image_id"], data["annotations"][1]["image_id"] = 7, 7

    (record,) = load_records("auto", coco(change=change))
    assert sorted(record.annotations) == [1, 2, 3]


def test_a_track_is_named_by_its_category(coco):
    (record,) = load_records("auto", coco())
    assert record.object_names == {5: "tool"}
    (unnamed,) = load_records("auto", coco(change=lambda data: data["categories"][0].update(name="object")))
    assert unnamed.object_names == {}


def test_objects_that_are_linked_by_overlap_are_named(coco):
    (record,) = load_records("auto", coco(), identity="iou")
    assert record.object_names == {1: "tool"}


def test_polygons_in_shares_of_the_frame_are_refused(coco, check_bad_input):
    shares = [[0.1, 0.1, 0.4, 0.1, 0.4, 0.5]]
    root = coco(change=lambda data: data["annotations"][1].update(segmentation=shares))
    says = ("video.json: video 1, frame 1, object 5", "between 0 and 1", "x = 0.1")
    check_bad_input(root, says, "multiply x by the width, 32, and y by the height, 24")


def test_a_polygon_of_the_first_pixel_is_none_in_shares(coco):
    corner = [[0, 0, 1, 0, 1, 1, 0, 1]]
    (record,) = load_records(
        "auto", coco(change=lambda data: data["annotations"][0].update(segmentation=corner))
    )
    assert load_masks(record, 1)[5].any()
    load_masks(record, 0)


def test_links_out_of_the_folder_are_one_fault(coco, tmp_path):
    def change(data):
        for i, image in enumerate(data["images"]):
            image["video_id"] = i

    root = coco(change=change)
    (tmp_path.parent / f"{tmp_path.name}_frames").mkdir()
    for path in list(root.glob("*.jpg")):
        target = tmp_path.parent / f"{tmp_path.name}_frames" / path.name
        path.rename(target)
        path.symlink_to(target)
    faults: list[DataError] = []
    assert load_records("auto", root, faults=faults) == []
    (fault,) = faults
    assert f"outside {root}" in str(fault)
    assert "(so do files of 4 videos)" in str(fault)
    assert fault.place["file"] == str(root / "video.json")
    assert len(load_records("auto", root, allow_absolute_paths=True)) == 4
