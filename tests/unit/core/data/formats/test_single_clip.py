from __future__ import annotations

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import find_object_ids


def test_folder_names_the_clip(tmp_path, frame, mask):
    for i in range(3):
        frame(tmp_path / f"my clip/JPEGImages/frame_{i:06d}.jpg")
    mask(tmp_path / "my clip/Annotations/frame_000002.png")
    (record,) = load_records("auto", tmp_path / "my clip")
    assert (record.video_id, record.num_frames, record.annotated_frames) == ("my clip", 3, [2])


def test_objects_in_subfolders(tmp_path, frame, mask):
    frame(tmp_path / "JPEGImages/0.jpg")
    for object_id in (3, 12):
        mask(tmp_path / f"Annotations/{object_id}/0.png")
    assert load_records("video", tmp_path)[0].object_ids == (3, 12)


def test_real_clip_is_read_from_its_frames(shared_data):
    (record,) = load_records("auto", shared_data / "pumavos_chair")
    assert (record.video_id, record.num_frames, record.height, record.width) == (
        "pumavos_chair",
        60,
        480,
        720,
    )
    assert record.frame_paths[59].endswith("frame_000059.jpg")
    assert find_object_ids(record) == (1,)
