"""Polygons that were drawn on frames of another size, in every layout that has polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sam2vt.core.data.checking.dataset import check_dataset
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.formats import load_records
from sam2vt.errors import DataError

NAMES = [f"{i}.jpg" for i in range(8)]
OF_IMAGES = {"categories": [{"id": 1, "name": "tool"}]}


def square(x: float, y: float, side: float = 6) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


Polygons = list[list[list[float]]]
CROSSING: Polygons = [square(3 * i, 2 * i) for i in range(8)]  # within 32 x 24 pixels
LARGER: Polygons = [[[2 * value for value in each[0]]] for each in CROSSING]
LEAVING: Polygons = [*CROSSING[:7], square(30, 4)]
CROPPED: Polygons = [[[value - 12 for value in each[0]]] for each in LARGER]
BEYOND = 10**400 - 1
BROKEN: Any = {"polygon 0 has 2 numbers": ["a", None], "polygon 0 has x = 9999": [BEYOND, 2, 3, 4, 5, 6]}


def coco(polygons: Polygons, **fields: Any) -> dict[str, Any]:
    images = [{"id": i, "file_name": name, "video_id": 3, **fields} for i, name in enumerate(NAMES)]
    masks = [
        {"id": i, "image_id": i, "track_id": 7, "category_id": 1, "segmentation": each}
        for i, each in enumerate(polygons)
    ]
    return {"images": images, "annotations": masks, **OF_IMAGES}


def stills(polygons: Polygons) -> dict[str, Any]:
    content = coco(polygons)
    for each in content["images"]:
        del each["video_id"]
    for each in content["annotations"]:
        del each["track_id"]
    return content


def youtube_vis(polygons: Polygons) -> dict[str, Any]:
    masks = [{"id": 1, "video_id": 3, "category_id": 1, "segmentations": polygons}]
    return {"videos": [{"id": 3, "file_names": NAMES}], "annotations": masks, **OF_IMAGES}


@pytest.fixture
def dataset(tmp_path: Path, frame: Any) -> Any:
    def write(content: dict[str, Any]) -> Path:
        for name in NAMES:
            frame(tmp_path / name)
        (tmp_path / "masks.json").write_text(json.dumps(content))
        return tmp_path

    return write


def findings(path: Path) -> tuple[list[str], list[str]]:
    """The faults and the notes of `sam2vt validate`, but that no later frame was decoded."""

    def load(faults: list[DataError], notes: list[str]) -> Any:
        return load_records("auto", path, faults=faults, notes=notes)

    found = check_dataset(str(path), load, VideoCheck(depth="all"), workers=1)[0]
    return [str(each) for each in found.faults], found.notes


@pytest.mark.parametrize("layout", [coco, youtube_vis])
def test_polygons_of_larger_frames_are_one_fault(dataset: Any, layout: Any) -> None:
    root = dataset(layout(LARGER))
    (fault,), _ = findings(root)
    for said in ("masks.json: video ", "3 of 8 polygons", "up to x = 54, y = 40", "7.jpg, which is 32x24"):
        assert said in fault
    assert "1.69 times less" in fault
    with pytest.raises(DataError, match="scale the polygons as the frames were"):
        load_records("auto", root)


def test_so_is_each_still(dataset: Any) -> None:
    faults, _ = findings(dataset(stills(LARGER)))
    assert ["5.jpg" in faults[0], len(faults)] == [True, 3]


@pytest.mark.parametrize("layout", [coco, youtube_vis])
@pytest.mark.parametrize(
    ("polygons", "said"), [(CROSSING, []), (LEAVING, ["1 of 8 polygons"]), (CROPPED, ["3 of 8 polygons"])]
)
def test_what_has_other_reasons_is_said_at_most(
    dataset: Any, layout: Any, polygons: Polygons, said: list[str]
) -> None:
    faults, notes = findings(dataset(layout(polygons)))
    found = [each for each in notes if "centre outside the frame" in each]
    assert not faults
    assert len(found) == len(said)
    assert all(text in note and "cut off" in note for text, note in zip(said, found))


@pytest.mark.parametrize("said", BROKEN)
def test_what_is_no_polygon_is_another_fault(dataset: Any, said: str) -> None:
    (fault,), _ = findings(dataset(coco([[BROKEN[said]], *CROSSING[1:]])))
    assert said in fault


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(48, 64, "of 2)"), (12, 64, "of 0.5 and 2)"), (24, 40, "of 1 and 1.25)")]
)
def test_a_stated_size_that_differs_has_a_factor(dataset: Any, height: int, width: int, factor: str) -> None:
    (fault,), _ = findings(dataset(coco(CROSSING, height=height, width=width)))
    assert f"video 3: image 0 states height x width {height} x {width}, but " in fault
    assert f"0.jpg is 24 x 32 (a factor {factor}" in fault
