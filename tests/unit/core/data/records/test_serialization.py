"""Texts of records as earlier versions wrote them."""

from __future__ import annotations

import json

from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.core.types import Figures, MaskletFrame, Segmentations, VideoRecord

BASE = {"video_id": "v", "num_frames": 3, "size": [48, 64], "annotations": [], "source": "/d/v.json"}


def text(**fields):
    return json.dumps({**BASE, "video": "/d/v.mp4", **fields}, separators=(",", ":"), ensure_ascii=False)


def test_what_extra_held_becomes_fields_and_the_same_text() -> None:
    extra = {
        "still": True,
        "parents": {"$items": [[3, 1]]},
        "intensity_range": [0.5, 4095.0],
        "classes": {"$items": [[1, "car"]]},
        "colours": {"tool": {"$tuple": [1, 2, 3]}},
        "object_names": {"$items": [[1, "cät"]]},
        "meta": "/d/meta.json",
        "set": 1,
    }
    record = decode_record(text(extra=extra))
    assert record == VideoRecord(
        "v",
        3,
        48,
        64,
        {},
        video_path="/d/v.mp4",
        source="/d/v.json",
        is_still=True,
        parents={3: 1},
        intensity_range=(0.5, 4095.0),
        classes={1: "car"},
        colours={"tool": (1, 2, 3)},
        object_names={1: "cät"},
        object_list="/d/meta.json",
        member=1,
    )
    assert json.loads(encode_record(record))["extra"] == extra
    assert list(json.loads(encode_record(record))["extra"]) == list(extra)


def test_other_keys_of_extra_are_passed_over() -> None:
    record = decode_record(text(extra={"mine": 1, "intensity_range": {"$tuple": [0, 9]}}))
    assert record.intensity_range == (0, 9)
    assert "extra" not in json.loads(text())


def test_figures_among_segmentations_are_told_apart() -> None:
    """Before figures had a kind of their own, they were written as segmentations."""
    bitmap = {"figure": "bitmap", "data": "eJw=", "origin": [1, 2]}
    record = decode_record(text(annotations=[["segmented", [[0, [[2, [bitmap]]]], [2, []]]]]))
    assert record.annotations == {0: Figures({2: [bitmap]}), 2: Figures({})}
    assert not record.from_coco
    rle = {"size": [48, 64], "counts": "abc"}
    segmented = [["segmented", [[0, [[2, [rle]]]], [2, []]]]]
    assert decode_record(text(annotations=segmented, source="/a/VIDEOS.JSON")).from_coco
    record = decode_record(text(annotations=segmented))
    assert record.annotations == {0: Segmentations({2: [rle]}), 2: Segmentations({})}
    assert record.from_coco
    assert json.loads(encode_record(record))["annotations"] == segmented


def test_groups_keep_their_order() -> None:
    groups = [
        ["labels", [0], ["/m/0.png"]],
        ["labels", [1], ["/m/1.png"], "ctc", ["/t/1.png"]],
        ["images", [2], [[5, [2], ["/o/2.png"]]]],
        ["packed", [3]],
        ["masklets", ["/a.json", "/b.json"], [4], [1]],
        ["segmented", [[5, []]]],
        ["figures", [[6, []]]],
    ]
    paths = {"folder": "/m", "names": ["0.png"]}, {"folder": "/m", "names": ["1.png"]}
    written = json.loads(encode_record(decode_record(text(annotations=groups))))["annotations"]
    assert [group[:2] for group in written] == [group[:2] for group in groups]
    assert (written[0][2], written[1][2]) == paths
    assert decode_record(text(annotations=groups)).annotations[4] == MaskletFrame(("/a.json", "/b.json"), 1)
