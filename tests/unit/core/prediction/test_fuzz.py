"""Files with anything in any place: read, or refused in one message; never another error."""

from __future__ import annotations

import copy
import json
import random

import pytest

from sam2vt.core.prediction.detection_files import read_detections
from sam2vt.core.prediction.prompt_files import read_prompts
from sam2vt.errors import DataError

PROMPTS = {
    "version": 1,
    "videos": {
        "bear": {
            "objects": [
                {
                    "id": 1,
                    "name": "cup",
                    "prompts": [
                        {"frame": 0, "points": [[1, 2], [3, 4]], "labels": [1, 0], "box": [1, 1, 5, 5]},
                        {"frame": 2, "mask": {"size": [6, 8], "counts": [10, 5, 33]}},
                        {"frame": 3, "points": [[1, 2]], "correct": True},
                    ],
                    "remove_at": 7,
                },
                {"name": "hand", "prompts": [{"frame": 1, "mask": {"size": [6, 8], "counts": "05[1"}}]},
            ]
        }
    },
}
OWN = {
    "version": 1,
    "frames": [
        {
            "frame": 1,
            "detections": [
                {"class": "cup", "score": 0.5, "box": [1, 1, 2, 2]},
                {"class": "cup", "mask": {"size": [6, 8], "counts": [10, 5, 33]}},
            ],
        }
    ],
}
COCO = [{"image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2], "score": 0.5}]
IMAGES = {
    "images": [{"id": n, "video_id": 1, "file_name": f"{n}.jpg", "frame_id": n} for n in range(3)],
    "videos": [{"id": 1, "name": "bear"}],
    "categories": [{"id": 2, "name": "cup"}],
}
VALUES = (
    *(None, True, 0, -1, 1, 3, 10**30, 0.5, -1e308, "", "x", "../x", "\0", "a" * 300, [], {}, [[]]),
    *(
        [None],
        [1, 2],
        {"size": [2, 2], "counts": []},
        {"size": "ab", "counts": "ab"},
        {"frame": 0},
        "prompts.json",
    ),
)


def places(content, path=()):
    yield path
    if isinstance(content, (dict, list)):
        for key, each in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(each, (*path, key))


def changed(content, rng):
    """The content with one to three places replaced, removed, doubled or renamed."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        *above, last = rng.choice([path for path in places(content) if path] or [("x",)])
        inner = content
        for key in above:
            inner = inner[key]
        if not isinstance(inner, (dict, list)) or not inner:
            return content
        action = rng.randrange(4)
        if action == 0:
            del inner[last]
        elif action == 1 and isinstance(inner, list):
            inner.append(copy.deepcopy(inner[last]))
        elif action == 2 and isinstance(inner, dict):
            inner[rng.choice(["x", "", "../x", "frames", "id"])] = inner.pop(last)
        else:
            inner[last] = copy.deepcopy(rng.choice(VALUES))
    return content


def save(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def outcome(read):
    try:
        read().for_video("bear", 6, 8, 9)
    except DataError:
        return "refused"
    return "read"


@pytest.mark.parametrize("seed", range(20))
def test_changed_files(tmp_path, seed):
    rng = random.Random(seed)
    outcomes = set()
    for n in range(20):
        prompts = save(tmp_path, f"{n}p.json", changed(PROMPTS, rng))
        outcomes.add(outcome(lambda prompts=prompts: read_prompts(prompts)))
        own = save(tmp_path, f"{n}o.json", changed(OWN, rng))
        outcomes.add(outcome(lambda own=own: read_detections(own, ["bear"])))
        coco = save(tmp_path, f"{n}c.json", changed(COCO, rng))
        outcomes.add(outcome(lambda coco=coco: read_detections(coco, ["bear"])))
        images = save(tmp_path, f"{n}i.json", changed(IMAGES, rng))
        outcomes.add(outcome(lambda coco=coco, images=images: read_detections(coco, ["bear"], images)))
    assert "refused" in outcomes


def test_the_files_themselves_are_read(tmp_path):
    assert outcome(lambda: read_prompts(save(tmp_path, "p.json", PROMPTS))) == "read"
    assert outcome(lambda: read_detections(save(tmp_path, "o.json", OWN), ["bear"])) == "read"
    coco, images = save(tmp_path, "c.json", COCO), save(tmp_path, "i.json", IMAGES)
    with pytest.raises(DataError, match="3 images of it, but it has 9 frames"):
        read_detections(coco, ["bear"], images).for_video("bear", 6, 8, 9)
    found = read_detections(coco, ["bear"], images).for_video("bear", 6, 8, 3)
    assert {frame: len(each) for frame, each in found.items()} == {1: 1, 2: 0}
