"""A whole dataset: what loading finds is told with its place, all of it in one pass."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from sam2vt.core.data.checking.dataset import DatasetFindings, check_dataset
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.writing.encoding import write_video

SIZE = (24, 32)
SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]


def check(path: Path, dataset_type: str = "auto") -> DatasetFindings:
    def load(faults, notes):
        return load_records(dataset_type, path, faults=faults, notes=notes)

    return check_dataset(str(path), load, VideoCheck(), workers=1)[0]


def places(found: DatasetFindings) -> set[tuple[str | None, int | None, int | None, str | None]]:
    return {(fault.video, fault.frame, fault.object, fault.file) for fault in found.faults}


def frame(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(path)


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SIZE, np.uint8)
    labels[4:9, 4:9] = 1
    Image.fromarray(labels).save(path)


def write_coco(root: Path, change) -> str:
    """Two videos, `1` and `2`, of three frames, with object 5 on each."""
    images = [
        {"id": 10 * v + i, "video_id": v, "file_name": f"{v}/{i}.jpg"} for v in (1, 2) for i in range(3)
    ]
    annotations = [
        {"id": 100 + image["id"], "image_id": image["id"], "track_id": 5, "segmentation": SQUARE}
        for image in images
    ]
    for image in images:
        frame(root / image["file_name"])
    change(images, {each["image_id"]: each for each in annotations})
    (root / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return str(root / "a.json")


def test_annotations_of_a_coco_json(tmp_path):
    """Without segmentation, without image, without identity; the other video's sizes."""

    def change(images, annotations):
        del annotations[11]["segmentation"]
        annotations[12]["image_id"] = 99
        del annotations[22]["track_id"]

    file = write_coco(tmp_path, change)
    assert places(check(tmp_path)) == {("1", 1, 5, file), (None, None, 5, file), ("2", 2, None, file)}


def test_images_of_a_coco_json(tmp_path):
    def change(images, annotations):
        images[1]["height"] = 77
        (tmp_path / "2/0.jpg").unlink()

    file = write_coco(tmp_path, change)
    assert places(check(tmp_path)) == {("1", 1, None, file), ("2", 0, None, file)}


def test_a_frame_that_is_no_image(tmp_path):
    mask(tmp_path / "Annotations/a/0.png")
    frame(tmp_path / "JPEGImages/a/0.jpg")
    (tmp_path / "JPEGImages/a/0.jpg").write_bytes(b"")
    assert places(check(tmp_path)) == {("a", 0, None, str(tmp_path / "JPEGImages/a/0.jpg"))}


def test_annotations_of_youtube_vis(tmp_path):
    videos = [{"id": v, "file_names": [f"{v}/{i}.jpg" for i in range(2)]} for v in "ab"]
    for name in (name for video in videos for name in video["file_names"]):
        frame(tmp_path / "JPEGImages" / name)
    annotations = [
        {"id": 1, "video_id": "a", "segmentations": [SQUARE, None]},
        {"id": 2, "video_id": "a", "segmentations": [SQUARE]},
        {"id": 3, "video_id": "b", "segmentations": [SQUARE, SQUARE]},
        {"id": 4, "video_id": "c", "segmentations": [SQUARE, SQUARE]},
    ]
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"videos": videos, "annotations": annotations}))
    found = check(tmp_path)
    assert places(found) == {("a", None, 2, str(path)), (None, None, None, str(path))}
    assert [video.video for video in found.videos] == ["b"]


def test_shapes_of_cvat(tmp_path):
    """The frame is the video's, not the number that the task gives to it."""
    for i in range(3):
        frame(tmp_path / f"task/images/frame_{10 + 5 * i:06d}.png")
    track = '<track id="{}" label="x"><polygon frame="10" points="1,1;9,1;9,9"/>{}</track>'
    (tmp_path / "task/annotations.xml").write_text(
        "<annotations><meta><task><mode>interpolation</mode><start_frame>10</start_frame>"
        "<stop_frame>20</stop_frame><frame_filter>step=5</frame_filter></task></meta>"
        + track.format(0, "")
        + track.format(1, '<polygon frame="20" points="1,x"/>')
        + "</annotations>"
    )
    assert places(check(tmp_path)) == {("task", 2, 2, str(tmp_path / "task/annotations.xml"))}


def test_figures_of_supervisely(tmp_path):
    (tmp_path / "set/video").mkdir(parents=True)
    (tmp_path / "set/ann").mkdir()
    write_video(tmp_path / "set/video/v.mp4", [np.full((*SIZE, 3), 9 * i, np.uint8) for i in range(3)], 10)
    objects = [{"key": key, "classTitle": "x"} for key in "ab"]
    box = {"objectKey": "b", "geometryType": "rectangle", "geometry": {}}
    (tmp_path / "set/ann/v.mp4.json").write_text(
        json.dumps(
            {
                "size": {"height": SIZE[0], "width": SIZE[1]},
                "framesCount": 3,
                "objects": objects,
                "frames": [{"index": 1, "figures": [box]}],
            }
        )
    )
    assert places(check(tmp_path)) == {("v", 1, 2, str(tmp_path / "set/ann/v.mp4.json"))}


def test_all_faulty_video_files_in_one_pass(tmp_path):
    """One without masks, one that is no video, masks of none, two that share masks; the sound one is read."""
    frames = [np.full((*SIZE, 3), 9 * i, np.uint8) for i in range(3)]
    for name in ("good", "lonely", "shared_1", "shared_2"):
        write_video(tmp_path / f"{name}.mp4", frames, 10)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for name in ("good", "broken", "unused", "shared"):
        for i in range(3):
            mask(tmp_path / name / f"{i}.png")
    found = check(tmp_path)
    assert places(found) == {
        ("lonely", None, None, str(tmp_path / "lonely.mp4")),
        ("broken", None, None, str(tmp_path / "broken.mp4")),
        (None, None, None, str(tmp_path / "unused")),
        (None, None, None, str(tmp_path / "shared")),
    }
    assert [video.video for video in found.videos] == ["good"]


def test_a_folder_that_cannot_be_listed_is_a_fault(tmp_path, monkeypatch):
    mask(tmp_path / "Annotations/a/0.png")
    frame(tmp_path / "JPEGImages/a/0.jpg")
    closed = str(tmp_path / "Annotations/a")

    def scandir(path, inner=os.scandir):
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return inner(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (fault,) = check(tmp_path).faults
    assert closed in fault.message
    assert "ermission denied" in fault.message


def test_two_videos_of_one_id(tmp_path):
    """The second would pass for the first, whatever the layout; here SA-V's."""
    masklets = {
        "video_frame_count": 1,
        "video_height": SIZE[0],
        "video_width": SIZE[1],
        "masklet_id": [0],
        "masklet": [[{"size": list(SIZE), "counts": [50, 9, SIZE[0] * SIZE[1] - 59]}]],
    }
    for folder in (tmp_path / "x", tmp_path / "y"):
        folder.mkdir()
        write_video(folder / "v.mp4", [np.zeros((*SIZE, 3), np.uint8)], 10)
        (folder / "v_manual.json").write_text(json.dumps(masklets))
    found = check(tmp_path)
    (fault,) = found.faults
    assert (fault.video, fault.file) == ("v", str(tmp_path / "y/v.mp4"))
    assert f"two videos have the id v: {tmp_path / 'x/v.mp4'} and {tmp_path / 'y/v.mp4'}" in fault.message
    assert [video.source for video in found.videos] == [str(tmp_path / "x/v_manual.json")]


def key_frames_of(tmp_path, **options):
    for i in range(7):
        frame(tmp_path / f"JPEGImages/a/{i}.jpg")
        if i % 3 == 0:
            mask(tmp_path / f"Annotations/a/{i}.png")
    found, _ = check_dataset(
        str(tmp_path),
        lambda faults, notes: load_records("auto", tmp_path, faults=faults, notes=notes),
        VideoCheck(**options),
        workers=1,
    )
    return [note for note in found.notes if "second annotated frame" in note]


def test_key_frames_that_no_clip_holds_two_of(tmp_path):
    (note,) = key_frames_of(tmp_path, clip_length=3)
    assert "1 of 1 videos (such as a): no clip of 3 frames at stride 1" in note
    assert "(--frame-stride)=3, or dataset.video_clip_length (--clip-length)=4" in note
    assert not key_frames_of(tmp_path, clip_length=4)
    assert not key_frames_of(tmp_path, clip_length=2, frame_stride=3)
