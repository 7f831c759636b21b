"""`sam2vt validate`: every fault in one pass, the numbers of a dataset, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt import cli
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks import labels
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.records.table import write_records
from sam2vt.core.data.writing.sample_data import write_sample_data

NUM_FRAMES = 12


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Two folders of frames and a video file, with two objects each."""
    root = tmp_path_factory.mktemp("sound") / "data"
    write_sample_data(str(root), num_videos=3, num_frames=NUM_FRAMES)
    return root


@pytest.fixture
def data(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit code, and what it prints."""
    try:
        cli.main(["validate", *map(str, arguments)])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def frame_of(data, video, number, folder="JPEGImages") -> Path:
    (path,) = (data / folder / video).glob(f"{number:05d}.*")
    return path


def label(size, value=1):
    pixels = np.zeros(size, np.uint8)
    pixels[2:9, 3:12] = value
    return Image.fromarray(pixels)


def test_a_sound_dataset(sound, capsys):
    code, out = run(capsys, sound, "--clip-length", 4)
    assert code == 0
    assert "videos         3" in out
    assert f"frames         {3 * NUM_FRAMES}, {3 * NUM_FRAMES} annotated (100%)" in out
    assert f"clips          {3 * (NUM_FRAMES - 3)} windows" in out
    assert out.endswith("no fault found\n")


def test_all_faults_in_one_pass(data, capsys):
    """Each with its video, frame and file; three videos, five kinds."""
    frame_of(data, "sample_00", 3, "Annotations").write_bytes(b"no image")
    label((9, 9)).save(frame_of(data, "sample_00", 5, "Annotations"))
    Image.new("RGB", (256, 192)).save(frame_of(data, "sample_00", 7, "Annotations"))
    frame_of(data, "sample_02", 4).write_bytes(b"")
    Image.new("RGB", (64, 64)).save(frame_of(data, "sample_02", 6))
    truncated = frame_of(data, "sample_02", 8, "Annotations")
    truncated.write_bytes(truncated.read_bytes()[:90])
    shutil.rmtree(data / "Annotations" / "sample_01")
    code, out = run(capsys, data, "--json")
    assert code == 1
    found = json.loads(out)
    places = {(fault["video"], fault["frame"]) for fault in found["faults"]}
    assert places == {
        ("sample_01", None),  # a video without masks
        ("sample_00", 3),
        ("sample_00", 5),
        ("sample_00", 7),
        ("sample_02", 4),
        ("sample_02", 6),
        ("sample_02", 8),
    }
    assert found["summary"]["faults"] == len(found["faults"]) == 7
    for fault in found["faults"]:
        assert fault["file"] in fault["message"]
    assert any("sample_01" in fault["message"] for fault in found["faults"])


def test_faults_are_printed_with_their_places(data, capsys):
    label((9, 9)).save(frame_of(data, "sample_00", 5, "Annotations"))
    code, out = run(capsys, data)
    assert code == 1
    assert "1 fault:\n  - " in out
    assert "the mask is 9x9" in out
    assert out.count("video sample_00, frame 5") == 1


def test_many_faults_are_counted(data, capsys, monkeypatch):
    monkeypatch.setattr("sam2vt.commands.validate._MOST_FAULTS", 3)
    for number in range(10):
        frame_of(data, "sample_00", number, "Annotations").write_bytes(b"")
    code, out = run(capsys, data)
    assert code == 1
    assert "10 faults:" in out
    assert out.count("\n  - ") == 3
    assert "and 7 more, of sample_00 (7); --json lists all" in out


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "is no dataset of type auto"),
        (lambda root: (root / "JPEGImages").mkdir(parents=True), "no masks, since there is no Annotations"),
    ],
)
def test_what_is_no_dataset(tmp_path, capsys, make, says):
    make(tmp_path / "data")
    code, out = run(capsys, tmp_path / "data")
    assert code == 1
    assert says in out
    assert "no video that can be read" in out


def test_options_that_mean_nothing_end_with_2(sound, capsys):
    assert run(capsys, sound, "--identity", "iou") == (2, "")
    assert run(capsys, sound, "--frame-stride", "0") == (2, "")


def test_every_mask_is_read_once(sound, capsys, monkeypatch):
    read = []
    monkeypatch.setattr(
        labels,
        "read_labels",
        lambda path, inner=labels.read_labels: read.append(path) or inner(path),
    )
    assert run(capsys, sound)[0] == 0
    assert len(read) == len(set(read)) == 3 * NUM_FRAMES


def test_headers_read_no_mask(sound, capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError("a mask was read")

    monkeypatch.setattr(labels, "read_labels", refuse)
    code, out = run(capsys, sound, "--read", "headers")
    assert code == 0
    assert "objects" not in out


def test_every_frame_is_decoded_where_asked(data, capsys):
    last = frame_of(data, "sample_00", NUM_FRAMES - 1)
    last.write_bytes(last.read_bytes()[:-2000])
    assert run(capsys, data)[0] == 0  # the clip in the middle is sound
    code, out = run(capsys, data, "--read", "all", "--json")
    assert code == 1
    (fault,) = json.loads(out)["faults"]
    assert (fault["video"], fault["file"]) == ("sample_00", str(last))


def test_numbers(sound, capsys):
    numbers = json.loads(run(capsys, sound, "--json")[1])["summary"]
    records = load_records("auto", sound)
    areas = [{i: m.sum() for i, m in load_masks(r, f).items()} for r in records for f in range(NUM_FRAMES)]
    assert numbers["videos"] == 3
    assert numbers["objects"] == sum(
        len({i for a in areas[n * NUM_FRAMES :][:NUM_FRAMES] for i in a}) for n in range(3)
    )
    assert numbers["object_pixels"]["most"] == max(area for each in areas for area in each.values())
    assert numbers["kinds"]["mp4, h264"] == 1
    assert numbers["sizes"] == {"256x192": 3}
    assert numbers["decoded_frames"] == 3 * 5


def test_several_processes_find_the_same(sound, tmp_path, capsys):
    """More videos than one process takes at a time."""
    root = tmp_path / "many"
    for number in range(20):
        for folder in ("JPEGImages", "Annotations"):
            shutil.copytree(sound / folder / "sample_00", root / folder / f"v{number:02d}")
    frame_of(root, "v13", 2, "Annotations").write_bytes(b"")
    one, two = (json.loads(run(capsys, root, "--json", "--workers", number)[1]) for number in (1, 2))
    for found in (one, two):
        found["summary"].pop("decoded_frames_a_second")
    assert one == two
    assert [fault["video"] for fault in one["faults"]] == ["v13"]
    assert any("begin with the very same frame" in note for note in one["notes"])


def test_notes(data, capsys):
    for number in range(1, NUM_FRAMES):
        label((192, 256), 0).save(frame_of(data, "sample_00", number, "Annotations"))
    out = run(capsys, data, "--clip-length", 40)[1]
    assert "sample_00, sample_01, sample_02: fewer frames than a clip of 40 at stride 1 needs" in out
    assert "visible on a single frame" in out


def test_a_record_table(sound, tmp_path, capsys):
    table = tmp_path / "videos.parquet"
    write_records(load_records("auto", sound), str(table))
    code, out = run(capsys, table)
    assert code == 0
    assert "videos         3" in out
    assert run(capsys, table, "--identity", "iou") == (2, "")


def test_a_process_that_is_killed_is_told(sound, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    class Pool:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def map(self, *_, **__):
            raise BrokenProcessPool

        def shutdown(self, **_):
            return None

    monkeypatch.setattr("sam2vt.core.data.workers.ProcessPoolExecutor", lambda *_, **__: Pool())
    monkeypatch.setattr("sam2vt.core.data.checking.dataset._VIDEOS_A_TASK", 1)
    with pytest.raises(SystemExit) as end:
        cli.main(["validate", str(sound), "--workers", "2"])
    assert end.value.code == 2


def test_report_holds_pictures_and_faults(data, tmp_path, capsys, caplog):
    frame_of(data, "sample_00", 5, "Annotations").write_bytes(b"<script>")
    caplog.set_level(logging.ERROR)
    page = tmp_path / "pages" / "out.html"
    assert run(capsys, data, "--report", page)[0] == 1
    text = page.read_text()
    assert text.count("<img ") >= 2
    assert "sample_00" in text
    assert not re.search("https?:", text)
    assert "Content-Security-Policy" in text
    assert text.count("<svg ") == 2
    assert "Videos by length" in text
    assert "Objects by size" in text
    run(capsys, data, "--report", page, "--read", "headers")
    assert page.read_text().count("<svg ") == 1  # no mask was read
    code, _ = run(capsys, data, "--report", data / "JPEGImages/sample_00/00000.jpg/x.html")
    assert code == 2


def test_annotations_that_are_left_out_are_noted(tmp_path, capsys):
    """Crowd regions: a note, also where nothing is left to train on."""
    polygon = [[4, 4, 20, 4, 20, 16, 4, 16]]
    annotations = [{"id": i, "image_id": i, "track_id": 1, "segmentation": polygon} for i in range(2)]
    annotations.append({"id": 9, "image_id": 1, "segmentation": polygon, "iscrowd": 1})
    for i in range(2):
        Image.new("RGB", (32, 24), (9 * i, 0, 0)).save(tmp_path / f"{i}.png")
    images = [{"id": i, "video_id": 1, "file_name": f"{i}.png"} for i in range(2)]
    for kept, code in ((annotations, 0), (annotations[2:], 1)):
        (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": kept}))
        ended, out = run(capsys, tmp_path, "--json", "--clip-length", 2)
        assert ended == code
        note = f"1 of {len(kept)} annotations are left out: crowd regions (iscrowd=1) without a track id"
        assert note in " ".join(json.loads(out)["notes"])


def test_void_alone_is_told_from_empty(data, capsys):
    """In a palette image with colours 255 is void."""
    for path in (data / "Annotations" / "sample_00").iterdir():
        labels = Image.fromarray(np.where(np.asarray(Image.open(path)), 255, 0).astype(np.uint8), mode="P")
        labels.putpalette([0, 0, 0, 200, 0, 0] + [9] * 253 * 3 + [255, 255, 255])
        labels.save(path)
    code, out = run(capsys, data, "--workers", 1)
    assert code == 1
    assert "1 fault:" in out
    assert "no object is visible on any of its 12 annotated frames" in out
    assert "What is drawn there is void: in a palette image with colours 255 is no object, even alone" in out


def test_a_folder_that_cannot_be_listed_ends_with_1(data, capsys, monkeypatch):
    closed = str(data / "Annotations")

    def scandir(path, inner=os.scandir):
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return inner(path)

    monkeypatch.setattr(os, "scandir", scandir)
    code, out = run(capsys, data, "--json")
    assert code == 1
    (fault,) = json.loads(out)["faults"]
    assert closed in fault["message"]
