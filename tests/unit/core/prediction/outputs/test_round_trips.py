"""What each format writes is read back by our own readers, equal within what the format can hold."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.prediction.outputs import OUTPUTS, check_outputs, join_outputs, write_outputs
from sam2vt.core.prediction.outputs.coco import image_root
from sam2vt.core.prediction.outputs.output import Plan
from sam2vt.core.types import VideoRecord

Read = Callable[[Path, Path, list[Any]], list[VideoRecord]]


def read_tree(out: Path, source: Path, videos: list[Any]) -> list[VideoRecord]:
    """The masks beside the frames are a DAVIS tree."""
    frames = out / "JPEGImages"
    shutil.copytree(source / "JPEGImages" if (source / "JPEGImages").exists() else source, frames)
    return load_records("auto", out)


def read_zip(out: Path, source: Path, videos: list[Any]) -> list[VideoRecord]:
    (path,) = out.glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(out if path.stem == "youtube-vos" else out / "Annotations")
    return read_tree(out, source, videos)


def read_coco(out: Path, source: Path, videos: list[Any]) -> list[VideoRecord]:
    COCO(str(out / "annotations.json"))
    return load_records("auto", out / "annotations.json", image_root=image_root(videos))


def read_sav(out: Path, source: Path, videos: list[Any]) -> list[VideoRecord]:
    for video in videos:
        shutil.copy(video.record.video_path, out / f"{video.name}.mp4")
    return load_records("auto", out)


def read_cvat(out: Path, source: Path, videos: list[Any]) -> list[VideoRecord]:
    for video in videos:
        folder = out / "cvat" / video.name
        if video.record.video_path:
            shutil.copy(video.record.video_path, folder)
        else:
            shutil.copytree(Path(video.record.frame_paths[0]).parent, folder / "images")
    return load_records("auto", out / "cvat")


READERS: dict[str, Read] = {
    "png": read_tree,
    "objects": read_tree,
    "coco": read_coco,
    "sav": read_sav,
    "cvat": read_cvat,
    "davis-zip": read_zip,
    "youtube-vos-zip": read_zip,
    "mose-zip": read_zip,
}
ZIPS = ("davis-zip", "youtube-vos-zip", "mose-zip")
OVERLAPS = ("objects", "coco", "sav", "cvat")
NAMES = {1: "dog", 2: "Kätzchen", 3: 'a "b" <c> & d'}
MANY = tuple(range(1, 301))
CASES: dict[str, dict[str, Any]] = {
    "one": {"keys": (1,)},
    "three with names": {"names": NAMES},
    "some with names": {"names": {2: "cat"}},
    "300": {"keys": MANY, "num_frames": 3},
    "large ids": {"keys": (7, 255, 3000)},
    "odd size": {"size": (17, 33)},
    "one row": {"size": (1, 40), "keys": (1, 2)},
    "name in other letters": {"video_id": "vidéo ü 漢字"},
    "overlaps": {"overlap": True},
}


def is_refused(name: str, case: str) -> bool:
    """Whether the format cannot hold the case, which its refusal says."""
    return (case == "overlaps" and name not in OVERLAPS) or (case in ("300", "large ids") and name in ZIPS)


def sources(name: str) -> list[str]:
    """Masklets are of video files."""
    return ["mp4"] if name == "sav" else ["images", "mp4"]


# H.264 has no frame of one row.
ROUND_TRIPS = [
    (name, case, source)
    for name in READERS
    for case in CASES
    for source in sources(name)
    if (case, source) != ("one row", "mp4")
]


@pytest.mark.parametrize(("name", "case", "source"), ROUND_TRIPS)
def test_masks_come_back(tracked, save, tmp_path: Path, name: str, case: str, source: str) -> None:
    made = tracked(mp4=source == "mp4", **CASES[case])
    video = made.video
    refusal = OUTPUTS[name].refusal(Plan(video.video_id, video.object_ids, case == "overlaps"))
    assert (refusal is not None) == is_refused(name, case)
    if refusal is not None:
        return
    out = tmp_path / "out"
    save(name, out, video)
    (found,) = READERS[name](out, tmp_path / "source", [video])
    assert (found.video_id, found.num_frames) == (video.video_id, video.num_frames)
    assert found.annotated_frames == list(range(video.num_frames))
    for frame, expected in enumerate(made.visible):
        read = load_masks(found, frame)
        assert list(read) == list(expected)
        assert all(np.array_equal(read[key], expected[key]) for key in expected)
    check_names(name, video.names, found)


def check_names(name: str, names: dict[int, str], found: VideoRecord) -> None:
    """Names come back, but for zips; a tree names all objects or none, masklets say their kind."""
    if not names or name in ZIPS:
        return
    assert {key: found.object_names[key] for key in names} == names
    unnamed = {"png": "1", "objects": "1", "sav": "manual 0", "cvat": "object", "coco": None}[name]
    if len(names) == 1:
        assert found.object_names.get(1) == unnamed


@pytest.mark.parametrize(("name", "source"), [(name, each) for name in READERS for each in sources(name)])
def test_several_videos(tracked, save, tmp_path: Path, name: str, source: str) -> None:
    mp4 = source == "mp4"
    made = [tracked((3, 1), "b", {1: "x"}, mp4=mp4), tracked((4,), "a", num_frames=5, mp4=mp4)]
    videos, out = [video for video, _ in made], tmp_path / "out"
    save(name, out, *videos)
    records = READERS[name](out, tmp_path / "source", videos)
    assert [each.video_id for each in records] == ["a", "b"]
    for record, each in zip(records, reversed(made)):
        for frame, expected in enumerate(each.visible):
            read = load_masks(record, frame)
            assert read.keys() == expected.keys()
            assert all(np.array_equal(read[key], expected[key]) for key in expected)


def test_an_object_that_is_never_visible_keeps_its_number(tracked, save, tmp_path: Path) -> None:
    video, _ = tracked((1, 2), names={1: "a", 2: "b", 9: "never"}, mp4=True)
    for name in ("sav", "cvat", "objects"):
        out = tmp_path / name
        save(name, out, video)
        (found,) = READERS[name](out, tmp_path / "source", [video])
        assert found.object_ids == (1, 2, 9)
        assert found.object_names[9] == "never"


def test_coco_beside_its_video(tracked, save, tmp_path: Path) -> None:
    """Without an option: the JSON is put beside the mp4."""
    made = tracked(mp4=True)
    save("coco", tmp_path / "source", made.video)
    (found,) = load_records("auto", tmp_path / "source" / "annotations.json")
    assert found.video_path == made.video.record.video_path
    assert load_masks(found, 0).keys() == made.visible[0].keys()


def test_coco_has_scores(tracked, save, tmp_path: Path) -> None:
    video, _ = tracked(names=NAMES)
    save("coco", tmp_path, video)
    coco = COCO(str(tmp_path / "annotations.json"))
    first = coco.loadAnns([1])[0]
    assert (first["score"], first["presence"], first["track_id"]) == (0.8, 0.9, 1)
    assert coco.loadCats([first["category_id"]])[0]["name"] == "dog"
    assert coco.annToMask(first).sum() == first["area"]


def test_the_same_masks_give_the_same_bytes(tracked, tmp_path: Path) -> None:
    formats = [name for name in OUTPUTS if name != "objects"]
    video, _ = tracked(names=NAMES)
    check_outputs(formats, [Plan(video.video_id, video.object_ids)])
    for folder in ("one", "other"):
        write_outputs(formats, video, tmp_path / folder)
        join_outputs(formats, [video], tmp_path / folder)
    one, other = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in files(tmp_path / folder)}
        for folder in ("one", "other")
    )
    assert one == other
    assert {str(path) for path in one} >= {"meta.json", "mose.zip", "objects.csv", "overlay/clip.mp4"}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("davis-zip", "clip/0000.png"),
        ("youtube-vos-zip", "Annotations/clip/0000.png"),
        ("mose-zip", "clip/0000.png"),
    ],
)
def test_zips_are_as_the_servers_take_them(tracked, save, tmp_path: Path, name: str, first: str) -> None:
    """An 8 bit palette image per frame, by its name."""
    video, _ = tracked()
    save(name, tmp_path / "out", video)
    (path,) = (tmp_path / "out").iterdir()
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[0] == first
        assert len(archive.namelist()) == video.num_frames
        with archive.open(first) as file, Image.open(file) as image:
            assert (image.mode, image.size) == ("P", (video.width, video.height))
            assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
