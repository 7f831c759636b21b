"""Thousands of broken RLEs and JSON files: each is a mask, or an error of ours, and never anything else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.errors import DataError, Sam2vtError

SIZE = (12, 16)
NUM_FRAMES = 3
ALWAYS = {
    "derandomize": True,  # the same cases each time
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}


def encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


SQUARE = np.zeros(SIZE, bool)
SQUARE[3:8, 4:12] = True
RLE = encoded(SQUARE)

numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**32 + 5, 2**63, -(2**63), -(2**63) - 1, 10**30, -(10**400), 10**400]),
    st.floats(width=32),
    st.sampled_from([float("inf"), -float("inf"), 1e300]),
)
# As ids and file names are written: signs and digits, too many to be a number, halves of characters.
texts = st.one_of(
    st.text(max_size=8),
    st.text("+-0123456789", max_size=24),
    st.text("09", min_size=1, max_size=2).map(lambda digits: digits * 3000),
    st.text(st.sampled_from("a/.\0\ud800\udc80\udfff"), max_size=4),
    st.binary(max_size=8).map(str),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts)
junk = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
# Strings of the alphabet of compressed counts, some near to what is right.
counts = st.one_of(
    st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=24),
    st.text(max_size=12),
    st.binary(max_size=24),
    st.tuples(st.integers(0, 30), st.characters(codec="ascii")).map(
        lambda change: RLE["counts"][: change[0]] + change[1] + RLE["counts"][change[0] + 1 :]
    ),
    st.lists(numbers, max_size=8),
    st.lists(st.integers(0, 96), min_size=2, max_size=2).map(
        lambda two: [*two, SIZE[0] * SIZE[1] - sum(two)]
    ),
    junk,
)
boxes = st.one_of(st.lists(st.integers(-1, 18), min_size=4, max_size=4), st.just([2, 2, 4, 3]), junk)
sizes = st.one_of(st.just(list(SIZE)), st.just(SIZE), junk)

cocos = st.fixed_dictionaries({"size": sizes, "counts": counts})
polygons = st.lists(st.lists(numbers | st.integers(0, 12), min_size=5, max_size=8), max_size=2)
rows_in_boxes = st.fixed_dictionaries({"rows": counts | st.just([5, 2, 5])}, optional={"box": boxes})


@settings(max_examples=3000, **ALWAYS)
@given(segmentation=cocos | rows_in_boxes | polygons | junk)
def test_any_segmentation(segmentation):
    refusal = ""
    try:
        mask = segmentation_to_mask(segmentation, *SIZE, "file: object 1")
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith("file: object 1")
    else:
        assert mask.shape == SIZE
        assert mask.dtype == bool
        assert set(np.unique(mask.view(np.uint8))) <= {0, 1}


def coco() -> dict[str, Any]:
    images = [{"id": i, "video_id": 1, "file_name": f"{i}.png", "frame_id": i} for i in range(NUM_FRAMES)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "track_id": 5, "segmentation": RLE}
        for i in range(NUM_FRAMES)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}


def stills() -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.png", "height": 12, "width": 16} for i in range(NUM_FRAMES)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}
        for i in range(NUM_FRAMES)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}


def youtube_vis() -> dict[str, Any]:
    names = [f"{i}.png" for i in range(NUM_FRAMES)]
    video = {"id": 1, "file_names": names, "height": 12, "width": 16, "length": NUM_FRAMES}
    annotation = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [RLE, None, RLE]}
    return {"videos": [video], "annotations": [annotation], "categories": [{"id": 1, "name": "a"}]}


def masklets() -> dict[str, Any]:
    return {
        "video_id": "clip",
        "video_duration": 0.6,
        "video_environment": "Indoor",
        "video_frame_count": 3.0,
        "video_height": 12.0,
        "video_width": 16.0,
        "masklet": [[RLE, RLE]] * NUM_FRAMES,
        "masklet_id": [0, 1],
    }


def meta() -> dict[str, Any]:
    objects = {str(i): {"category": "a", "frames": [str(each) for each in range(NUM_FRAMES)]} for i in (1, 2)}
    return {"videos": {"v": {"objects": objects}}}


def burst() -> dict[str, Any]:
    names = [f"{i}.png" for i in range(NUM_FRAMES)]
    sequence = {"seq_name": "", "dataset": "", "height": 12, "width": 16, "all_image_paths": names}
    tracks = {
        "annotated_image_paths": names[:2],
        "segmentations": [{"1": {"rle": RLE["counts"]}}, {"1": RLE}],
    }
    named = {"track_category_ids": {"1": 1}}
    return {
        "sequences": [sequence | tracks | named],
        "categories": [{"id": 1, "name": "a"}],
        "split": "train",
    }


def labelme() -> dict[str, Any]:
    shapes = [
        {"label": "a", "group_id": i, "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"}
        for i in (1, 2)
    ]
    return {"shapes": shapes, "imagePath": "0.png", "imageHeight": 12, "imageWidth": 16}


LAYOUTS = {"coco": coco, "stills": stills, "youtube_vis": youtube_vis, "masklets": masklets, "meta": meta}
LAYOUTS |= {"burst": burst, "labelme": labelme}
FILES = {"masklets": "clip_manual.json", "meta": "tree/meta.json", "labelme": "shapes/0.json"}
EXAMPLES, FEWER = 500, {"burst": 200}  # of a layout
# Which place is changed, and what becomes of it: it goes, it comes twice, it has another name, or it is junk.
kinds = st.sampled_from(["drop", "double", "rename", "junk", "junk", "junk"])
# What has once got through somewhere.
hostile = st.sampled_from(
    ["--5", "-", "1" * 5000, "\ud800", "a/\udcff", 2**63, 10**400, float("inf"), 1e300, [[1]], {"a": 1}, None]
)
change = st.tuples(st.integers(0, 10_000), kinds, st.one_of(hostile, hostile, junk, counts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    for i in range(NUM_FRAMES):
        Image.new("RGB", SIZE[::-1]).save(root / f"{i}.png")
        for name, mode in (("JPEGImages", "RGB"), ("Annotations", "L")):
            (root / "tree" / name / "v").mkdir(parents=True, exist_ok=True)
            Image.new(mode, SIZE[::-1], 1 if mode == "L" else 0).save(root / "tree" / name / "v" / f"{i}.png")
    (root / "shapes").mkdir()
    Image.new("RGB", SIZE[::-1]).save(root / "shapes/0.png")
    write_video(root / "clip.mp4", [np.zeros((*SIZE, 3), np.uint8)] * NUM_FRAMES, fps=5)
    return root


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_any_json(folder, layout):
    path = folder / FILES.get(layout, f"{layout}.json")
    outcomes = {"read": 0, "refused": 0}

    @settings(max_examples=FEWER.get(layout, EXAMPLES), **ALWAYS)
    @given(changes=st.lists(change, min_size=1, max_size=3), cut=st.none() | st.integers(0, 400))
    def read(changes, cut):
        text = json.dumps(changed(LAYOUTS[layout](), changes), default=repr)
        text = text.replace("Infinity", "1e999")  # as JSON may say it
        path.write_text(text[:-cut] if cut else text)
        refusal = ""
        try:
            read_masks(path.parent if layout in ("meta", "labelme") else path)
        except Sam2vtError as error:
            refusal = str(error)
        assert not refusal or str(folder) in refusal
        outcomes["refused" if refusal else "read"] += 1

    read()
    assert min(outcomes.values()) > 10, outcomes  # neither all of them, nor none


def read_masks(path: Path) -> None:
    for record in load_records("auto", path):
        for frame in record.annotated_frames:
            for mask in load_masks(record, frame).values():
                assert mask.shape == (record.height, record.width)
                assert set(np.unique(mask.view(np.uint8))) <= {0, 1}


def changed(content: Any, changes: list[tuple[int, str, Any]]) -> Any:
    content = copy.deepcopy(content)
    for number, kind, value in changes:
        places = list(places_in(content))
        if not places:
            return value
        parent, key = places[number % len(places)]
        if kind == "drop":
            del parent[key]
        elif kind == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif kind == "rename" and isinstance(parent, dict):
            parent[str(value)] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(value)  # a further change may go into it
    return content


def places_in(content: Any):
    """Every (container, key) of a JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from places_in(value)
