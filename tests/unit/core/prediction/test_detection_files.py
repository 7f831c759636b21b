"""Detections read from our JSON and from COCO's results, and each fault with its place."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.prediction.detection_files import read_detections
from sam2vt.errors import DataError

HEIGHT, WIDTH = 12, 16
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[2:5, 3:9] = True


def rle_of(mask=MASK):
    rle = encode_mask(mask)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def write(folder, content, name="detections.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def frames(*entries):
    return {"version": 1, "frames": list(entries)}


CUP = {"class": "cup", "score": 0.9, "box": [1, 2, 5, 6]}
RESULT = {"image_id": 3, "category_id": 1, "bbox": [1, 2, 4, 4], "score": 0.9}


def test_our_json(tmp_path):
    hand = {"class": "hand", "mask": rle_of()}
    low = {**CUP, "score": 0.2}
    content = {
        "version": 1,
        "videos": {
            "bear": {
                "frames": [{"frame": 4, "detections": [CUP, hand, low]}, {"frame": 0, "detections": []}]
            },
            "duck": {"frames": []},
        },
    }
    found = read_detections(write(tmp_path, content), ["bear", "duck"], min_score=0.5)
    bear = found.for_video("bear", HEIGHT, WIDTH, 5)
    assert list(bear) == [0, 4]
    cup, hand = bear[4]
    assert (cup.name, cup.score, cup.box, cup.mask()) == ("cup", 0.9, (1, 2, 5, 6), None)
    assert (hand.name, hand.score, hand.box) == ("hand", 1.0, None)
    assert np.array_equal(hand.mask(), MASK)
    assert cup.where.endswith("detections.json: video bear, frame 4, detections[0]")
    assert found.for_video("duck", HEIGHT, WIDTH, 5) == {}


def test_boxes_are_cut_at_the_edges(tmp_path):
    path = write(tmp_path, frames({"frame": 0, "detections": [{**CUP, "box": [-1, 2, 16.5, 99]}]}))
    assert read_detections(path, ["x"]).for_video("x", HEIGHT, WIDTH)[0][0].box == (0, 2, 16, 12)


def test_boxes_that_stick_out_as_sizes_alone_are_cut(tmp_path):
    """As corners the second one has no area, so that sizes are meant; and the first pixel is no share."""
    results = [{**RESULT, "bbox": [8, 6, 15, 11]}, {**RESULT, "bbox": [6, 2, 5, 6]}]
    found = read_detections(write(tmp_path, results), ["clip"]).for_video("clip", HEIGHT, WIDTH, 4)
    assert [each.box for each in found[3]] == [(8, 6, 16, 12), (6, 2, 11, 8)]
    first = write(tmp_path, frames({"frame": 0, "detections": [{**CUP, "box": [0, 0, 1, 1]}]}))
    assert read_detections(first, ["x"]).for_video("x", HEIGHT, WIDTH)[0][0].box == (0, 0, 1, 1)


def test_coco_results_of_a_single_video(tmp_path):
    results = [RESULT, {**RESULT, "image_id": 0, "segmentation": rle_of(), "id": 5}]
    found = read_detections(write(tmp_path, results), ["clip"]).for_video("clip", HEIGHT, WIDTH, 4)
    assert found[3][0].box == (1, 2, 5, 6)
    assert found[3][0].name == "class 1"
    assert found[0][0].box is None
    assert np.array_equal(found[0][0].mask(), MASK)


@pytest.mark.parametrize("named", [True, False])
def test_coco_results_with_their_images(tmp_path, named):
    """Videos are found by the id that images have, or by the name of that id."""
    images = [
        {"id": 10 * video + frame, "video_id": video, "file_name": f"{frame}.jpg"}
        for video in (1, 2)
        for frame in (2, 10, 1)
    ]
    listed = {"images": images, "categories": [{"id": 7, "name": "cup"}]}
    listed["videos"] = [{"id": 1, "name": "bear"}, {"id": 2, "name": "duck"}]
    path = write(tmp_path, listed, "images.json")
    results = [{**RESULT, "image_id": "30", "category_id": "7"}, {**RESULT, "image_id": 11}]
    ids = ["bear", "duck"] if named else ["1", "2"]
    found = read_detections(write(tmp_path, results), ids, path)
    duck = found.for_video(ids[1], HEIGHT, WIDTH, 3)
    assert list(duck) == [2]
    assert duck[2][0].name == "cup"
    bear = found.for_video(ids[0], HEIGHT, WIDTH, 3)
    assert {frame: len(each) for frame, each in bear.items()} == {0: 1, 1: 0, 2: 0}  # nothing was found later
    with pytest.raises(DataError, match=r"lists 3 images of it, but it has 4 frames.*list every frame"):
        found.for_video(ids[0], HEIGHT, WIDTH, 4)


def test_a_class_named_like_a_path_is_refused(tmp_path):
    listed = {"images": [{"id": 3, "file_name": "3.jpg"}], "categories": [{"id": 1, "name": "../cup"}]}
    path = write(tmp_path, listed, "images.json")
    with pytest.raises(DataError, match=r"images\.json: category 1, name: is '\.\./cup', a path; allowed is"):
        read_detections(write(tmp_path, [RESULT]), ["clip"], path)


@pytest.mark.parametrize("source", ["bear", "anything"])
def test_images_without_videos_are_those_of_the_only_one(tmp_path, source):
    images = [{"id": n, "file_name": f"frames/bear/{n}.jpg"} for n in range(3)]
    path = write(tmp_path, {"images": images}, "images.json")
    found = read_detections(write(tmp_path, [{**RESULT, "image_id": 2}]), [source], path)
    assert list(found.for_video(source, HEIGHT, WIDTH, 3)) == [2]


def detected(**fields):
    return frames({"frame": 4, "detections": [{**CUP, **fields}]})


TWO = {"version": 1, "videos": {"bear": {"frames": []}, "duck": {"frames": []}}}
BAD = {
    "no JSON": ("[", ["cannot be read as JSON"]),
    "a number": ("3", ["is '3'"]),
    "nested deeply": ("[" * 100_000, ["nested too deeply"]),
    "version": ({"version": "1", "frames": []}, ["version: is '1'", "allowed is 1"]),
    "no frames": ({"version": 1}, ["neither videos nor frames"]),
    "frames null": ({"version": 1, "frames": None}, ["frames: is 'None'", "a list"]),
    "video without frames": ({"version": 1, "videos": {"bear": {}}}, ["video bear: has no field frames"]),
    "path": ({"version": 1, "videos": {"../bear": {"frames": []}}}, ["'../bear', a path"]),
    "other videos": (TWO, ["'duck' is not in the source", "it has bear"]),
    "no frame": (frames({"detections": [CUP]}), ["frames[0]: has no field frame"]),
    "detection for frame": (frames(CUP), ["frames[0]", "has no field frame"]),
    "frame negative": (frames({"frame": -3, "detections": []}), ["frames[0], frame: is '-3'"]),
    "frame twice": (frames(*[{"frame": 1, "detections": []}] * 2), ["frames[1]: is frame 1 again"]),
    "no class": (detected(**{"class": 5}), ["frame 4, detections[0], class: is '5'"]),
    "class is a path": (detected(**{"class": "../x"}), ["class: is '../x', a path"]),
    "score above 1": (detected(score=1.5), ["detections[0], score: is '1.5'", "from 0 to 1"]),
    "score a text": (detected(score="0.9"), ["score: is '0.9'"]),
    "box of two": (detected(box=[1, 2]), ["frame 4, detections[0], box: is '[1, 2]'", "x0, y0, x1, y1"]),
    "box without area": (detected(box=[5, 2, 5, 6]), ["frame 4, detections[0]: the box", "no area"]),
    "box infinite": (json.dumps(detected(box=[1, 2, 3, 1])).replace("3, 1]", "3, 1e999]"), ["inf", "finite"]),
    "both": (detected(mask=rle_of()), ["has both box and mask", "one of them"]),
    "misspelt": (detected(bbox=[1, 2, 3, 4]), ["'bbox' is no field here, did you mean box?"]),
    "RLE": (detected(mask={"size": [2, 2], "counts": [9]}), ["mask: RLE counts sum to 9", "2 x 2"]),
    "RLE empty": (detected(mask={"size": [2, 2], "counts": [4]}), ["mask: is empty"]),
    "entry null": ([None], ["[0]: is 'None'"]),
    "no image": ([{**RESULT, "image_id": None}], ["[0], image_id: is 'None'"]),
    "image a list": ([{**RESULT, "image_id": [1]}], ["[0], image_id: is '[1]'"]),
    "image a name": ([{**RESULT, "image_id": "x"}], ["[0], image_id: is 'x'", "--detections-images"]),
    "no image id": ([{"category_id": 1, "score": 1, "bbox": [1, 1, 2, 2]}], ["[0]: has no field image_id"]),
    "no score": ([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}], ["[0]: has no field score"]),
    "no box": ([{"image_id": 1, "category_id": 1, "score": 1}], ["neither bbox nor segmentation"]),
    "bbox negative": ([{**RESULT, "bbox": [5, 5, -1, 2]}], ["[0]: the box (5.0, 5.0, 4.0, 7.0)", "no area"]),
    "polygon": ([{**RESULT, "segmentation": [[1, 1, 2, 2, 3, 1]]}], ["[0], segmentation: is", "an RLE"]),
}


@pytest.mark.parametrize(("content", "parts"), BAD.values(), ids=BAD)
def test_bad_files(tmp_path, content, parts):
    with pytest.raises(DataError) as caught:
        read_detections(write(tmp_path, content), ["bear"])
    message = str(caught.value)
    assert [each for each in [*parts, "detections.json"] if each not in message] == [], message


BAD_IMAGES = {
    "no images": ({"annotations": []}, ["images.json: the field images"]),
    "a list": ([], ["images.json"]),
    "image null": ({"images": [None]}, ["images[0] is 'None'"]),
    "no id": ({"images": [{"file_name": "1.jpg"}]}, ["images[0] has id None"]),
    "id twice": ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, ["the id 1"]),
    "one in a video": (
        {"images": [{"id": 1, "video_id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}]},
        ["images[1]", "video_id None"],
    ),
    "no name": ({"images": [{"id": 1, "video_id": 1}]}, ["image 1 has neither path nor file_name"]),
    "videos": ({"images": [{"id": 1, "file_name": "a"}], "videos": 5}, ["videos is '5'"]),
    "not listed": ({"images": [{"id": 1, "file_name": "a"}]}, ["[0], image_id: is '3'", "not list; add it"]),
    "other video": (
        {"images": [{"id": 3, "video_id": "beer", "file_name": "a"}]},
        ["'beer' is not in the source, did you mean bear?"],
    ),
}


@pytest.mark.parametrize(("images", "parts"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(tmp_path, images, parts):
    path = write(tmp_path, images, "images.json")
    with pytest.raises(DataError) as caught:
        read_detections(write(tmp_path, [RESULT]), ["bear"], path)
    message = str(caught.value)
    assert [each for each in parts if each not in message] == [], message


def test_what_options_do_not_allow(tmp_path):
    own, coco = write(tmp_path, detected()), write(tmp_path, [RESULT], "coco.json")
    for path, ids, fields, message in (
        (coco, ["a", "b"], {}, "the source has 2 videos.*--detections-images"),
        (own, ["a"], {"images_path": "x.json"}, "is no list of COCO's results; leave x.json"),
        (own, ["a"], {"min_score": 1.1}, "--min-score: is 1.1; allowed is a number from 0 to 1"),
        (own, ["a"], {"min_score": float("nan")}, "--min-score: is nan"),
        (
            own,
            ["a"],
            {"min_score": 0.95},
            "none of its 1 detections scores at least 0.95.*highest score is 0.9",
        ),
    ):
        with pytest.raises(DataError, match=message):
            read_detections(path, ids, **fields)


BAD_FOR_VIDEO = {
    "frame": (frames({"frame": 10, "detections": [CUP]}), ["video bear, frame 10", "10 frames", "0 to 9"]),
    "box": (detected(box=[16, 2, 20, 6]), ["frame 4, detections[0]", "(16, 2, 20, 6) is outside", "16x12"]),
    "shares": (
        detected(box=[0.2, 0.25, 0.5, 0.75]),
        ["video bear: its boxes are between 0 and 1", "multiply x by the width, 16, and y by the height, 12"],
    ),
    "shares of COCO": (
        [{**RESULT, "image_id": frame, "bbox": [0.2, 0.3, 0.1, 0.2]} for frame in (1, 2)],
        ["video bear: its boxes are between 0 and 1"],
    ),
    "corners for sizes": (
        [{**RESULT, "bbox": [1, 2, 5, 6]}, {**RESULT, "bbox": [8, 6, 15, 11]}],
        ["its boxes, such as (8, 6, 15, 11), fit the frame of 16x12 as x0, y0, x1, y1", "write width and"],
    ),
    "mask": (
        frames({"frame": 4, "detections": [{"class": "cup", "mask": rle_of(MASK.T)}]}),
        ["frame 4, detections[0]: the mask is 12x16", "its frame is 16x12"],
    ),
}


@pytest.mark.parametrize(("content", "parts"), BAD_FOR_VIDEO.values(), ids=BAD_FOR_VIDEO)
def test_detections_that_do_not_fit_their_video(tmp_path, content, parts):
    found = read_detections(write(tmp_path, content), ["bear"])
    with pytest.raises(DataError) as caught:
        found.for_video("bear", HEIGHT, WIDTH, 10)
    message = str(caught.value)
    assert [each for each in [*parts, "detections.json"] if each not in message] == [], message
