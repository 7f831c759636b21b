"""Prompts from a JSON: what is read, and each fault with its place and what is allowed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.prediction.prompt_files import read_prompts
from sam2vt.core.prediction.types import Click
from sam2vt.errors import DataError

HEIGHT, WIDTH = 12, 16


def square(top=2, left=3, size=4, shape=(HEIGHT, WIDTH)):
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def rle_of(mask):
    rle = encode_mask(mask)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def write(folder, content):
    path = folder / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def one(*prompts, **fields):
    """A file of one object."""
    return {"version": 1, "objects": [{"id": 1, "name": "cup", "prompts": list(prompts), **fields}]}


def objects(*entries):
    return {"version": 1, "objects": list(entries)}


POINT = {"frame": 0, "points": [[5, 4]]}


def test_all_forms_are_read(tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(square().astype(np.uint8) * 255).save(tmp_path / "masks" / "cup.png")
    cup = {
        "id": 7,
        "name": "cup",
        "prompts": [
            {"frame": 12, "points": [[1, 2]], "labels": [0], "correct": True},
            {"frame": 0, "points": [[4.5, 3], [9, 9]], "labels": [1, 0], "box": [2, 2, 8, 8.5]},
            {"frame": 7, "mask": "masks/cup.png"},
            {"frame": 9, "mask": rle_of(square(5))},
        ],
        "remove_at": 40,
    }
    hand = {"name": "hand", "prompts": [{"frame": 7, "points": [[1, 1]]}]}
    prompts = read_prompts(write(tmp_path, {"version": 1, "videos": {"bear": {"objects": [cup, hand]}}}))
    prompts.check_videos(["bear"])
    found = prompts.for_video("bear", HEIGHT, WIDTH, 50)
    assert [(each.frame, each.object_id) for each in found.prompts] == [
        (0, 7),
        (7, 1),
        (7, 7),
        (9, 7),
        (12, 7),
    ]
    first, other, from_file, from_rle, correction = found.prompts
    assert first.clicks == (Click(4.5, 3, True), Click(9, 9, False))
    assert first.box == (2, 2, 8, 8.5)
    assert other.clicks == (Click(1, 1),)
    assert np.array_equal(from_file.mask, square())
    assert np.array_equal(from_rle.mask, square(5))
    assert (first.corrects, correction.corrects) == (False, True)
    assert found.names == {7: "cup", 1: "hand"}
    assert found.removals == {7: 40}
    assert from_file.where.endswith("prompts.json: video bear, object 7 (cup), frame 7")


def test_objects_of_the_only_video_and_of_unknown_length(tmp_path):
    prompts = read_prompts(write(tmp_path, one({"frame": 100_000, "points": [[0, 0]]})))
    prompts.check_videos(["camera"])
    assert prompts.for_video("camera", HEIGHT, WIDTH, None).prompts[0].frame == 100_000
    with pytest.raises(DataError, match=r"single video, but the source has 2: a, b.*under \"videos\""):
        prompts.check_videos(["a", "b"])


def test_objects_without_ids_get_the_lowest_free_ones(tmp_path):
    entries = [{"name": name, "prompts": [POINT]} for name in "abc"]
    entries[1] = {"id": 1, "name": "a", "prompts": [POINT]}
    found = read_prompts(write(tmp_path, objects(*entries))).for_video("x", HEIGHT, WIDTH, 3)
    assert found.names == {2: "a", 1: "a", 3: "c"}


def test_videos_that_do_not_fit_the_source(tmp_path):
    videos = {name: {"objects": [{"id": 1, "prompts": [POINT]}]} for name in ("bear", "duck")}
    prompts = read_prompts(write(tmp_path, {"version": 1, "videos": videos}))
    with pytest.raises(DataError) as caught:
        prompts.check_videos(["bears", "duck", "cat"])
    message = str(caught.value)
    assert "2 faults" in message
    assert "'bear' is not in the source, did you mean bears?" in message
    assert "2 of 3 videos of the source are not in it: bears, cat; add them" in message
    with pytest.raises(DataError, match="no prompt for video cat; add it"):
        prompts.for_video("cat", HEIGHT, WIDTH, 3)


HUGE = {"size": [HEIGHT, WIDTH], "counts": [2**62, 2**62]}
ONE_VIDEO = {"objects": [{"id": 1, "prompts": [POINT]}]}

# (content, what the message says; every part of it)
BAD_FILES = {
    "no JSON": ("{", ["prompts.json", "cannot be read as JSON"]),
    "a list": ([], ["is '[]'", "allowed is an object with version, videos, objects"]),
    "nested deeply": ("[" * 100_000, ["nested too deeply"]),
    "nested in a field": (
        '{"version": '
        + "[" * 900
        + "]" * 900
        + ', "objects": [{"id": 1, "prompts": [{"frame": 0, "box": [1, 1, 2, 2]}]}]}',
        ["version", "allowed is 1"],
    ),
    "NaN": ('{"version": NaN}', ["NaN is no number of JSON"]),
    "a field twice": ('{"version": 1, "version": 1}', ["'version' is there twice"]),
    "no version": ({"objects": ONE_VIDEO["objects"]}, ["has no field version"]),
    "another version": ({"version": 2, "objects": ONE_VIDEO["objects"]}, ["version: is '2'; allowed is 1"]),
    "version true": ({"version": True, "objects": ONE_VIDEO["objects"]}, ["version: is 'True'"]),
    "misspelt": ({"version": 1, "vidoes": {}}, ["'vidoes' is no field here, did you mean videos?"]),
    "neither": ({"version": 1}, ["neither videos nor objects", "allowed is one"]),
    "both": ({"version": 1, "videos": {"a": ONE_VIDEO}, **ONE_VIDEO}, ["both videos and objects"]),
    "no videos": ({"version": 1, "videos": {}}, ["videos: is '{}'", "at least one"]),
    "video is a path": ({"version": 1, "videos": {"../x": ONE_VIDEO}}, ["'../x', a path"]),
    "video is absolute": ({"version": 1, "videos": {"/etc": ONE_VIDEO}}, ["'/etc', a path"]),
    "video is a list": ({"version": 1, "videos": {"a": []}}, ["video a: is '[]'", "objects"]),
    "video without objects": ({"version": 1, "videos": {"a": {}}}, ["video a: has no field objects"]),
    "objects empty": (objects(), ["objects: is '[]'", "at least one entry"]),
    "object is a text": (objects("cup"), ["objects[0]: is 'cup'", "id, name, prompts, remove_at"]),
    "object without identity": (objects({"prompts": [POINT]}), ["objects[0]", "neither id"]),
    "id 0": (objects({"id": 0, "prompts": [POINT]}), ["object 0, id", "from 1 to 65535"]),
    "id too large": (objects({"id": 65536, "prompts": [POINT]}), ["object 65536, id", "from 1 to 65535"]),
    "name is a path": (one(POINT, name="../x"), ["object 1", "name: is '../x', a path"]),
    "name with a line end": (one(POINT, name="a\nb"), ["object 1, name", "printable"]),
    "name too long": (one(POINT, name="a" * 201), ["object 1, name", "1 to 200"]),
    "same id": (
        objects({"id": 3, "prompts": [POINT]}, {"id": 3, "prompts": [POINT]}),
        ["object 3: is there twice, with the id 3"],
    ),
    "same name": (
        objects({"name": "a", "prompts": [POINT]}, {"name": "a", "prompts": [POINT]}),
        ["object a: is there twice, with the name a"],
    ),
    "object without prompts": (objects({"id": 2}), ["object 2: has no field prompts"]),
    "prompts empty": (one(), ["object 1, prompts: is '[]'", "at least one entry"]),
    "prompt is null": (one(None), ["object 1 (cup), prompts[0]: is 'None'"]),
    "no frame": (one({"points": [[1, 1]]}), ["prompts[0]: has no field frame"]),
    "frame negative": (one({**POINT, "frame": -1}), ["frame -1, frame: is '-1'", "from 0 to"]),
    "frame half": (one({**POINT, "frame": 1.5}), ["prompts[0], frame: is '1.5'"]),
    "frame huge": (one({**POINT, "frame": 2**31}), ["frame: is '2147483648'"]),
    "frame true": (one({**POINT, "frame": True}), ["frame: is 'True'"]),
    "nothing shown": (
        one({"frame": 4}),
        ["object 1 (cup), frame 4: shows nothing", "points, a box or a mask"],
    ),
    "misspelt points": (one({"frame": 4, "point": [[1, 1]]}), ["frame 4: 'point' is no field", "points?"]),
    "points empty": (one({"frame": 4, "points": []}), ["frame 4, points: is '[]'"]),
    "points flat": (one({"frame": 4, "points": [1, 2]}), ["frame 4, points: is '1'", "2 finite numbers"]),
    "points of three": (one({"frame": 4, "points": [[1, 2, 3]]}), ["points: is '[1, 2, 3]'", "x, y"]),
    "points infinite": (
        '{"version": 1, "objects": [{"id": 1, "prompts": [{"frame": 4, "points": [[1e999, 2]]}]}]}',
        ["object 1, frame 4, points: is '[inf, 2]'", "finite"],
    ),
    "points huge": (one({"frame": 4, "points": [[10**400, 2]]}), ["points: is", "finite"]),
    "labels too few": (one({"frame": 4, "points": [[1, 1]], "labels": []}), ["labels: are 0 for 1 points"]),
    "labels alone": (one({"frame": 4, "labels": [1]}), ["labels: are 1 for 0 points"]),
    "labels of a box": (one({"frame": 4, "points": [[1, 1]], "labels": [2]}), ["labels: is '[2]'", "1 (on"]),
    "all negative": (one({"frame": 4, "points": [[1, 1]], "labels": [0]}), ["frame 4: points: all are neg"]),
    "both on a pixel": (
        one({"frame": 4, "points": [[1, 1], [1.5, 1.5]], "labels": [1, 0]}),
        ["frame 4: points: a positive and a negative click are on one pixel"],
    ),
    "box of three": (one({"frame": 4, "box": [1, 2, 3]}), ["box: is '[1, 2, 3]'", "4 finite"]),
    "box without area": (one({"frame": 4, "box": [1, 2, 1, 5]}), ["frame 4: box: (1.0,", "x0 < x1"]),
    "box turned": (one({"frame": 4, "box": [5, 2, 1, 5]}), ["frame 4: box", "no area"]),
    "mask outside": (one({"frame": 4, "mask": "../x.png"}), ["mask: is '../x.png'", "inside"]),
    "mask absolute": (one({"frame": 4, "mask": "/etc/passwd"}), ["mask: is '/etc/passwd'", "inside"]),
    "mask with a zero": (one({"frame": 4, "mask": "a\0.png"}), [r"mask: is 'a\x00.png'", "inside"]),
    "mask missing": (
        one({"frame": 4, "mask": "no.png"}),
        ["frame 4, mask", "no.png: the mask does not exist"],
    ),
    "mask is no image": (one({"frame": 4, "mask": "prompts.json"}), ["frame 4, mask", "opened as an image"]),
    "mask of two": (one({"frame": 4, "mask": "two.png"}), ["frame 4, mask", "values [1, 2]", "one value"]),
    "mask file empty": (one({"frame": 4, "mask": "zero.png"}), ["frame 4: mask: is empty"]),
    "mask a number": (one({"frame": 4, "mask": 5}), ["frame 4, mask: is '5'", "an RLE"]),
    "RLE without size": (one({"frame": 4, "mask": {"counts": "04"}}), ["mask: is", "size"]),
    "RLE too large": (one({"frame": 4, "mask": {"size": [2**20, 2**20], "counts": [2**40]}}), ["at most"]),
    "RLE of size 0": (one({"frame": 4, "mask": {"size": [0, 5], "counts": [0]}}), ["mask: is", "RLE"]),
    "RLE too short": (one({"frame": 4, "mask": {"size": [2, 2], "counts": [1, 2]}}), ["sum to 3", "2 x 2"]),
    "RLE negative": (one({"frame": 4, "mask": {"size": [2, 2], "counts": [5, -1]}}), ["negative"]),
    "RLE counts huge": (one({"frame": 4, "mask": HUGE}), ["larger than any image"]),
    "RLE damaged": (one({"frame": 4, "mask": {"size": [2, 2], "counts": "h"}}), ["middle of a count"]),
    "RLE without counts": (one({"frame": 4, "mask": {"size": [2, 2]}}), ["counts are NoneType"]),
    "RLE empty": (one({"frame": 4, "mask": {"size": [2, 2], "counts": [4]}}), ["frame 4, mask: is empty"]),
    "mask and points": (
        one({"frame": 4, "points": [[1, 1]], "mask": rle_of(square())}),
        ["frame 4: has a mask beside points or a box"],
    ),
    "mask and box": (one({"frame": 4, "box": [1, 1, 2, 2], "mask": rle_of(square())}), ["a mask beside"]),
    "a frame twice": (
        one(POINT, {"frame": 0, "box": [1, 1, 5, 5]}),
        ["object 1 (cup), frame 0: is prompted twice", "points and box of a frame into one"],
    ),
    "correct no bool": (one(POINT, {**POINT, "frame": 3, "correct": 1}), ["frame 3, correct: is '1'"]),
    "first a correction": (one({**POINT, "correct": True}), ["frame 0: corrects", "no prompt is before it"]),
    "correction too early": (
        one({**POINT, "correct": True}, {**POINT, "frame": 3}),
        ["frame 0: corrects", "first prompt is on frame 3", "leave correct out"],
    ),
    "correction by a box": (
        one(POINT, {"frame": 3, "box": [1, 1, 2, 2], "correct": True}),
        ["frame 3: correct: a correction is made of points alone"],
    ),
    "correction by a mask": (
        one(POINT, {"frame": 3, "mask": rle_of(square()), "correct": True}),
        ["frame 3: correct"],
    ),
    "removed before": (
        one({**POINT, "frame": 3}, remove_at=2),
        ["frame 3: is prompted, but the object is removed at frame 2", "later remove_at"],
    ),
    "removed at its prompt": (one({**POINT, "frame": 3}, remove_at=3), ["removed at frame 3"]),
    "removed at 0": (one(POINT, remove_at=0), ["object 1, remove_at: is '0'", "from 1"]),
}


@pytest.mark.parametrize(("content", "parts"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(tmp_path, content, parts):
    Image.fromarray((square() + 2 * square(7)).astype(np.uint8)).save(tmp_path / "two.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "zero.png")
    with pytest.raises(DataError) as caught:
        read_prompts(write(tmp_path, content))
    message = str(caught.value)
    assert [each for each in [*parts, "prompts.json"] if each not in message] == [], message
    assert "faults" not in message, "one cause, one fault"
    assert caught.value.place["file"].endswith("prompts.json")


# (prompts, what the message says) of a video of 10 frames of 16x12.
BAD_FOR_VIDEO = {
    "frame": (one({**POINT, "frame": 10}), ["frame 10: is not in the video", "10 frames", "0 to 9"]),
    "x": (
        one({"frame": 4, "points": [[1, 1], [16, 3]]}),
        ["frame 4: points[1]: (16, 3)", "x from 0 to below 16"],
    ),
    "y": (one({"frame": 4, "points": [[1, -0.1]]}), ["points[0]: (1, -0.1) is outside the frame of 16x12"]),
    "box": (one({"frame": 4, "box": [1, 1, 17, 3]}), ["box: (1, 1, 17, 3) is not within", "y from 0 to 12"]),
    "mask": (
        one({"frame": 4, "mask": rle_of(square(shape=(16, 12)))}),
        ["frame 4: mask: is 12x16 (width x height), its frame is 16x12"],
    ),
    "removal": (one(POINT, remove_at=10), ["remove_at: is 10; the last frame of the video is 9"]),
}


@pytest.mark.parametrize(("content", "parts"), BAD_FOR_VIDEO.values(), ids=BAD_FOR_VIDEO)
def test_prompts_that_do_not_fit_their_video(tmp_path, content, parts):
    prompts = read_prompts(write(tmp_path, content))
    with pytest.raises(DataError) as caught:
        prompts.for_video("bear", HEIGHT, WIDTH, 10)
    message = str(caught.value)
    wanted = [*parts, "prompts.json: video bear, object 1 (cup)"]
    assert [each for each in wanted if each not in message] == [], message
    assert caught.value.place["video"] == "bear"


def test_edges_of_the_frame_are_inside(tmp_path):
    content = one({"frame": 9, "points": [[0, 0], [15.9, 11.9]], "box": [0, 0, 16, 12]}, remove_at=10)
    content["objects"][0]["remove_at"] = 10
    prompts = read_prompts(write(tmp_path, content))
    assert prompts.for_video("x", HEIGHT, WIDTH, 11).prompts[0].box == (0, 0, 16, 12)


def test_all_faults_in_one_message_up_to_twenty(tmp_path):
    content = one({"frame": 0, "points": [[1]]}, {"frame": 1, "box": [1]}, {"frame": 2, "mask": 0})
    with pytest.raises(DataError, match="3 faults") as caught:
        read_prompts(write(tmp_path, content))
    assert [f"frame {n}, " in str(caught.value) for n in range(3)] == [True] * 3
    with pytest.raises(DataError, match=r"50 faults[^\0]*and 30 more") as caught:
        read_prompts(write(tmp_path, one(*[{"frame": n, "points": 1} for n in range(50)])))
    assert len(str(caught.value).splitlines()) == 22


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(square().astype(np.uint8)).save(tmp_path / "out.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(DataError, match="allowed is an image inside"):
        read_prompts(write(tmp_path / "in", one({"frame": 0, "mask": "link.png"})))


def test_no_torch_is_loaded():
    modules = "prompt_files, mask_prompts, detection_files, association"
    code = f"import sys; from sam2vt.core.prediction import {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
