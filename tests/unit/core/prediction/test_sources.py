"""Each SOURCE is recognised as what it is and gives its frames, or is refused in one message."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2vt.config import DatasetConfig
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames import images
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.records.table import write_records
from sam2vt.core.data.writing.pack import pack
from sam2vt.core.prediction.source import FetchedSource, Source
from sam2vt.core.prediction.sources import open_sources
from sam2vt.errors import ConfigError, DataError, Sam2vtError

from .conftest import HEIGHT, WIDTH, in_step, indices_of


def ids(sources: list[Source]) -> list[str]:
    return [each.video_id for each in sources]


def check_whole(source: Source, num_frames: int = 6, fps: float | None = None) -> None:
    """Its size, length, all of its frames, and those from the middle on, also resized."""
    assert (source.height, source.width, source.num_frames) == (HEIGHT, WIDTH, num_frames)
    assert (source.fps, source.is_live) == (fps, False)
    assert indices_of(list(source.frames())) == in_step(range(num_frames))
    assert indices_of(list(source.frames(2, (24, 24)))) == in_step(range(2, num_frames))
    assert next(source.frames(0, (24, 32)))[1].shape == (24, 32, 3)
    assert list(source.frames(num_frames)) == []
    assert indices_of([(4, source.frame_at(4))]) == [(4, 4)]


def test_a_video_file(tmp_path, video, caplog) -> None:
    path = video(tmp_path / "my clip.mp4")
    with caplog.at_level(logging.INFO):
        (source,) = open_sources(str(path))
    assert "my clip.mp4: recognised as a video file without annotations: my clip" in caplog.text
    assert (source.video_id, source.has_masks) == ("my clip", False)
    assert [source.frame_name(i) for i in (0, 5)] == ["00000", "00005"]
    check_whole(source, fps=10)
    assert source.record.video_path == str(path)


def test_a_file_is_a_video_whatever_its_ending(tmp_path, video) -> None:
    (source,) = open_sources(str(video(tmp_path / "recording.dat", container="matroska")))
    assert source.video_id == "recording"
    check_whole(source, fps=10)


def test_a_folder_of_frames(tmp_path, frames, caplog) -> None:
    path = frames(tmp_path / "clip", [f"f_{i}.png" for i in range(8, 14)])
    with caplog.at_level(logging.INFO):
        (source,) = open_sources(f"{path}/")
    assert "recognised as a folder of frames without annotations: clip" in caplog.text
    assert (source.video_id, source.has_masks) == ("clip", False)
    assert [source.frame_name(i) for i in (0, 5)] == ["f_8", "f_13"]
    check_whole(source)


def test_one_image_is_a_video_of_one_frame(tmp_path, frames) -> None:
    frames(tmp_path / "photos", ["a.png", "b.png"])
    (source,) = open_sources(str(tmp_path / "photos/b.png"))
    assert (source.video_id, source.num_frames, source.frame_name(0)) == ("b", 1, "b")
    assert indices_of(list(source.frames())) == [(0, 1)]


def test_frames_above_8_bits(tmp_path) -> None:
    for i in range(4):
        Image.fromarray(np.full((HEIGHT, WIDTH), 1000 + 100 * i, np.uint16)).save(tmp_path / f"{i}.tif")
    (source,) = open_sources(str(tmp_path))
    assert source.record.intensity_range == (1000, 1300)
    assert [int(frame.max()) for _, frame in source.frames()] == [0, 85, 170, 255]


def test_a_folder_of_videos_and_of_folders(tmp_path, video, frames, caplog) -> None:
    video(tmp_path / "clip 10.mp4")
    video(tmp_path / "clip 2.mkv")
    frames(tmp_path / "frames")
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "old.rmvb").write_text("no video")
    with caplog.at_level(logging.INFO):
        sources = open_sources(str(tmp_path))
    assert ids(sources) == ["clip 2", "clip 10", "frames"]
    assert "recognised as a folder of videos without annotations: clip 2, clip 10, frames" in caplog.text
    assert "left out" in caplog.text
    assert "old.rmvb" in caplog.text
    for source in sources:
        check_whole(source, fps=None if source.video_id == "frames" else 10)


def test_names_that_repeat_become_paths(tmp_path, video, frames) -> None:
    for place in ("day 1/cam", "day 2/cam"):
        frames(tmp_path / place, 2)
    video(tmp_path / "day 2/late.mp4", 2)
    assert ids(open_sources(str(tmp_path))) == ["day 1/cam", "day 2/cam", "day 2/late"]
    assert ids(open_sources(str(tmp_path / "day 2"))) == ["cam", "late"]


def test_links_round_and_round(tmp_path, frames) -> None:
    frames(tmp_path / "all/clip", 2)
    (tmp_path / "all/again").symlink_to(tmp_path / "all")
    assert ids(open_sources(str(tmp_path / "all"))) == ["clip"]


def test_folders_that_are_too_deep_are_told(tmp_path, frames, caplog) -> None:
    frames(tmp_path / "1/2/3", 2)
    assert ids(open_sources(str(tmp_path))) == ["3"]
    frames(tmp_path / "a/b/c/d/e", 2)
    assert ids(open_sources(str(tmp_path))) == ["3"]
    assert "a/b/c/d, which are too deep" in caplog.text


def test_patterns(tmp_path, video, frames, caplog) -> None:
    for name in ("a1", "a2", "b1"):
        video(tmp_path / f"{name}.mp4", 2)
    frames(tmp_path / "a3", 12)
    (tmp_path / "a4.txt").write_text("no video")
    assert ids(open_sources(f"{tmp_path}/a?.mp4")) == ["a1", "a2"]
    assert ids(open_sources(f"{tmp_path}/a*")) == ["a1", "a2", "a3"]
    assert "a4.txt" in caplog.text
    assert ids(open_sources(f"{tmp_path}/**/*.png")) == ["a3"]
    assert ids(open_sources(f"{tmp_path}/**")) == ["a1", "a2", "a3", "b1"]
    (some,) = open_sources(f"{tmp_path}/a3/0000[2-7].png")
    assert [source.frame_name(0) for source in (some,)] == ["00002"]
    assert [round(float(frame.mean())) for _, frame in some.frames()] == [40, 60, 80, 100, 120, 140]


def test_a_name_with_a_wildcard_in_it_is_a_name(tmp_path, video) -> None:
    video(tmp_path / "a[1].mp4", 2)
    assert ids(open_sources(str(tmp_path / "a[1].mp4"))) == ["a[1]"]


@pytest.fixture
def annotated(tmp_path, frames) -> Path:
    """A tree whose first frames have masks, as test sets have them."""
    for name, place in (("one", 0), ("two", 1)):
        frames(tmp_path / "data/JPEGImages" / name)
        folder = tmp_path / "data/Annotations" / name
        folder.mkdir(parents=True)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[4:12, 4:12] = 3
        Image.fromarray(labels).save(folder / f"{place:05d}.png")
    return tmp_path / "data"


def test_a_dataset_keeps_its_masks(annotated, tmp_path, caplog) -> None:
    records = load_records("auto", annotated)
    write_records(records, tmp_path / "table.parquet")
    with caplog.at_level(logging.INFO):
        for path in (annotated, tmp_path / "table.parquet"):
            sources = open_sources(str(path))
            assert [each.record for each in sources] == records
            assert ids(sources) == ["one", "two"]
            for place, source in enumerate(sources):
                check_whole(source)
                assert source.has_masks
                assert source.record.annotated_frames == [place]
                assert list(load_masks(source.record, place)) == [3]
    assert "recognised as a tree of frames and masks" in caplog.text
    assert ids(open_sources(f"{annotated}/JPEGImages/*")) == ["one", "two"]
    assert not any(each.has_masks for each in open_sources(f"{annotated}/JPEGImages/*"))


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_pack(annotated, tmp_path, as_uri) -> None:
    pack(load_records("auto", annotated), str(tmp_path / "pack"))
    sources = open_sources((tmp_path / "pack").as_uri() if as_uri else str(tmp_path / "pack"))
    assert ids(sources) == ["one", "two"]
    for source in sources:
        check_whole(source)
        assert source.has_masks


def test_part_of_a_video(annotated, tmp_path) -> None:
    from dataclasses import replace

    (record, *_) = load_records("auto", annotated)
    write_records([replace(record, frame_range=(2, 5))], tmp_path / "part.parquet")
    (source,) = open_sources(str(tmp_path / "part.parquet"))
    assert not source.has_masks
    assert indices_of(list(source.frames())) == in_step(range(2, 5))
    assert indices_of(list(source.frames(4))) == in_step(range(4, 5))
    assert list(source.frames(5)) == []


def test_video_files_with_masks_are_a_dataset(tmp_path, video, annotated) -> None:
    path = video(tmp_path / "clips/one.mp4")
    assert not open_sources(str(path))[0].has_masks
    os.rename(annotated / "Annotations/one", tmp_path / "clips/one")
    for source in (path, path.parent):
        (found,) = open_sources(str(source))
        assert found.has_masks
        assert found.record.annotated_frames == [0]
    # A pattern takes what it matches, and nothing else.
    assert not open_sources(f"{path.parent}/*.mp4")[0].has_masks


def test_a_video_beside_a_folder_of_frames_is_no_dataset(tmp_path, video, frames) -> None:
    video(tmp_path / "clip.mp4")
    frames(tmp_path / "other", 3)
    assert ids(open_sources(str(tmp_path))) == ["clip", "other"]


def test_a_long_folder_is_listed_without_opening_its_frames(tmp_path, monkeypatch) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "00000.jpg")
    for i in range(1, 2_000):
        os.link(tmp_path / "00000.jpg", tmp_path / f"{i:05d}.jpg")
    opened, real = [], images.open_image
    monkeypatch.setattr(images, "open_image", lambda path, *rest: opened.append(path) or real(path, *rest))
    (source,) = open_sources(str(tmp_path))
    assert (source.num_frames, source.frame_name(1_999)) == (2_000, "01999")
    assert set(opened) == {str(tmp_path / "00000.jpg")}


def test_files_are_counted_when_they_are_asked_for(tmp_path, video, monkeypatch) -> None:
    from sam2vt.core.data.formats import records

    path = video(tmp_path / "a.mp4")
    monkeypatch.setattr(records, "probe_video", lambda path: pytest.fail("the file was read"))
    assert ids(open_sources(str(path))) == ["a"]


class TestRemote:
    """URIs are fetched one video at a time; file:// stands for all of them."""

    def test_a_file(self, tmp_path, video) -> None:
        uri = video(tmp_path / "clips/a.mp4").as_uri()
        (source,) = open_sources(uri)
        assert isinstance(source, FetchedSource)
        assert (source.video_id, source.has_masks, source._copy) == ("a", False, None)
        with source:
            check_whole(source, fps=10)
            copy = source.record.video_path
            assert not copy.startswith(str(tmp_path / "clips"))
            assert Path(copy).is_file()
        assert not Path(copy).exists()
        check_whole(source, fps=10)  # fetched again
        source.close()

    def test_folders(self, tmp_path, video, frames, caplog) -> None:
        video(tmp_path / "all/clip.mp4")
        frames(tmp_path / "all/frames", [f"f_{i}.png" for i in range(8, 14)])
        (tmp_path / "all/.hidden.mp4").write_bytes(b"no video")
        sources = open_sources((tmp_path / "all").as_uri())
        assert ids(sources) == ["clip", "frames"]
        for source in sources:
            with source:
                check_whole(source, fps=10 if source.video_id == "clip" else None)
        assert sources[1].frame_name(5) == "f_13"
        assert ids(open_sources(f"{(tmp_path / 'all').as_uri()}/*.mp4")) == ["clip"]
        assert ids(open_sources(f"{(tmp_path / 'all').as_uri()}/f*")) == ["frames"]
        (source,) = open_sources((tmp_path / "all/frames").as_uri())
        assert source.video_id == "frames"

    def test_messages_name_the_uri(self, tmp_path, frames) -> None:
        folder = frames(tmp_path / "clip", 3)
        (folder / "00002.png").write_bytes(b"no image")
        (source,) = open_sources(folder.as_uri())
        with source, pytest.raises(DataError) as caught:
            list(source.frames())
        assert f"{folder.as_uri()}/00002.png: the frame cannot be opened" in str(caught.value)
        assert caught.value.place["file"] == f"{folder.as_uri()}/00002.png"
        assert caught.value.place["frame"] == 2

    def test_one_that_is_gone(self, tmp_path, video) -> None:
        path = video(tmp_path / "a.mp4")
        (source,) = open_sources(path.as_uri())
        path.unlink()
        with source, pytest.raises(DataError, match=r"a\.mp4: cannot be fetched: .*check the address"):
            source.height  # noqa: B018

    def test_a_full_disk(self, tmp_path, video, monkeypatch) -> None:
        from sam2vt.core.storage.folder import Folder

        def full(self: Any, name: str, local: str) -> None:
            raise OSError(28, "No space left on device", local)

        monkeypatch.setattr(Folder, "fetch", full)
        (source,) = open_sources(video(tmp_path / "a.mp4").as_uri())
        with source, pytest.raises(DataError, match=r"sam2vt-source-.*: No space left .* free some space"):
            source.height  # noqa: B018


def cut(path: Path) -> Path:
    """Its header comes first, and tells of frames that are gone."""
    path.write_bytes(path.read_bytes()[:-200])
    return path


def joined(path: Path, *others: Path) -> Path:
    path.write_bytes(b"".join(each.read_bytes() for each in others))
    return path


def other_size(tmp_path: Path, frames: Any) -> Path:
    folder = frames(tmp_path / "clip", 3)
    Image.new("RGB", (WIDTH, HEIGHT + 2)).save(folder / "00003.png")
    return folder


def make(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere")
    return path


def unknown_codec(path: Path) -> Path:
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XXX"))
    return path


def damaged(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:60])
    return path


# What is made, given (folder, writer of videos, writer of frames), returning SOURCE -> what the message says.
BAD: dict[str, tuple[Any, tuple[str, ...]]] = {
    "nothing": (lambda t, v, f: "", ("SOURCE is empty", "a video file (.mp4")),
    "no such file": (lambda t, v, f: t / "x" / "clip.mp4", ("clip.mp4 does not exist", "holds nothing")),
    "a link to nothing": (lambda t, v, f: link(t / "clip.mp4"), ("clip.mp4 is a link to nothing",)),
    "an empty folder": (lambda t, v, f: t, ("holds nothing", "a folder of frames (.jpg", "camera:0")),
    "a folder of text": (
        lambda t, v, f: make(t / "a.txt").parent,
        ("holds a.txt", "allowed are a video file"),
    ),
    "an empty file": (lambda t, v, f: make(t / "a.mp4"), ("a.mp4: cannot be opened", "the file is empty")),
    "an empty file in a folder": (
        lambda t, v, f: make(t / "d/a.mp4").parent,
        ("d/a.mp4", "the file is empty"),
    ),
    "a text file": (
        lambda t, v, f: make(t / "a.txt", b"text"),
        ("a.txt: cannot be opened as a video", "matroska"),
    ),
    "an archive": (lambda t, v, f: make(t / "a.zip", b"PK"), ("SOURCE", "a.zip is an archive; unpack it")),
    "a playlist": (
        lambda t, v, f: make(t / "a.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n"),
        ("a.mp4: cannot be opened as a video", "not lists of files"),
    ),
    "a missing codec": (
        lambda t, v, f: unknown_codec(v(t / "a.mkv")),
        ("a.mkv: there is no decoder", "ffmpeg"),
    ),
    "sound alone": (
        lambda t, v, f: t / "sound.mka",
        ("sound.mka: the file has no video stream; it holds audio",),
    ),
    "a damaged header": (lambda t, v, f: damaged(v(t / "a.mp4")), ("a.mp4: cannot be opened as a video",)),
    "a video that ends early": (
        lambda t, v, f: cut(v(t / "cut.mp4", 40, codec="mpeg4", options={"movflags": "faststart"})),
        ("cut.mp4: frame ", "re-encode it"),
    ),
    "a video that changes its size": (
        lambda t, v, f: joined(t / "c.ts", v(t / "a.ts", 3), v(t / "b.ts", 3, size=(96, 96))),
        ("c.ts: frame 3 is 96x96 (width x height)", "c is 64x48", "one size"),
    ),
    "an empty image": (
        lambda t, v, f: make(f(t / "c", 2) / "00002.png").parent,
        ("00002.png", "file is empty"),
    ),
    "a damaged first image": (
        lambda t, v, f: make(t / "c/0.jpg", b"x").parent,
        ("0.jpg: the frame cannot be",),
    ),
    "a cut image": (
        lambda t, v, f: damaged(f(t / "c", 3) / "00001.png").parent,
        ("00001.png: the frame is damaged",),
    ),
    "another size": (
        lambda t, v, f: other_size(t, f),
        ("00003.png: frame 3 is 64x50", "is 64x48", "one size"),
    ),
    "a broken link among frames": (
        lambda t, v, f: link(f(t / "c", 2) / "9.png").parent,
        ("9.png: is a link to",),
    ),
    "a pipe among frames": (
        lambda t, v, f: os.mkfifo(f(t / "c", 2) / "9.png") or t / "c",
        ("9.png: is no regular file",),
    ),
    "a folder named as a frame": (
        lambda t, v, f: (f(t / "c", 2) / "9.png").mkdir() or t / "c",
        ("9.png: is a folder",),
    ),
    "no clear order": (
        lambda t, v, f: f(t / "c", ["a1_10.png", "a2_9.png", "a3_8.png"]),
        ("the order of the frames is not clear", "Rename the frames"),
    ),
    "two frames of one name": (
        lambda t, v, f: f(t / "c", ["1.png", "1.jpg"]),
        ("two images have one name: 1.jpg, 1.png",),
    ),
    "frames and videos": (
        lambda t, v, f: v(f(t / "c", 2) / "a.mp4", 2).parent,
        ("holds 2 images and 1 videos, such as", "c/a.mp4; choose by a pattern", "c/*.png'"),
    ),
    "frames and folders of frames": (
        lambda t, v, f: f(f(t / "c", 2) / "inner", 2).parent,
        ("c: holds 2 images and 1 videos", "c/inner"),
    ),
    "two videos of one id": (
        lambda t, v, f: v(v(t / "a.mp4", 2).with_suffix(".mkv"), 2).parent,
        ("2 videos would have the id a:", "a.mkv", "a.mp4", "rename one"),
    ),
    "a pattern of nothing": (lambda t, v, f: t / "*.mp4", ("*.mp4 matches nothing",)),
    "a pattern of text": (
        lambda t, v, f: make(t / "a.txt") and t / "*.txt",
        ("names no video; allowed are",),
    ),
    "a pattern of a broken link": (
        lambda t, v, f: link(t / "a.mp4") and t / "*.mp4",
        ("a.mp4: cannot be opened",),
    ),
    "a name that is not UTF-8": (
        lambda t, v, f: not_utf8(f(t / "c", 1)),
        ("e9.png: the name is not UTF-8",),
    ),
    "an unknown scheme": (lambda t, v, f: "gopher://x/a.mp4", ("gopher://x/a.mp4: ", "cannot be")),
    "the web": (lambda t, v, f: "https://localhost:1/a.mp4", ("https://localhost:1", "cannot be")),
    "a URI of nothing": (lambda t, v, f: (t / "none").as_uri(), ("none names no video; allowed are",)),
    "a URI pattern above": (
        lambda t, v, f: f"{t.as_uri()}/*/a.mp4",
        ("wildcards in the last part of a URI",),
    ),
    "a URI of a dataset": (
        lambda t, v, f: f(f(t / "JPEGImages/a", 1).parents[1] / "Annotations/a", 1).parents[1].as_uri(),
        ("holds a dataset", "pack it", "JPEGImages for its frames alone"),
    ),
    "several splits": (
        lambda t, v, f: (
            [f(t / s / k / "a", 1) for s in ("train", "valid") for k in ("JPEGImages", "Annotations")] and t
        ),
        ("holds several splits (train, valid)",),
    ),
    "a dataset with a fault": (
        lambda t, v, f: (
            f(t / "Annotations/b", 1) and f(t / "JPEGImages/a", 1) and f(t / "Annotations/a", 1) and t
        ),
        ("videos have masks but no frames: b", "To track without its annotations", "by a pattern"),
    ),
}


def not_utf8(folder: Path) -> Path:
    os.rename(os.fsencode(folder / "00000.png"), os.fsencode(folder) + b"/\xe9.png")
    return folder


def write_sound(path: Path) -> None:
    import av

    with av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def read_all(source: str) -> None:
    for each in open_sources(source):
        with each:
            list(each.frames())


@pytest.mark.parametrize("case", BAD)
def test_bad_sources(case, tmp_path, video, frames) -> None:
    if case == "sound alone":
        write_sound(tmp_path / "sound.mka")
    prepare, says = BAD[case]
    source = str(prepare(tmp_path, video, frames))
    with pytest.raises(Sam2vtError) as caught:
        read_all(source)
    message = str(caught.value)
    assert [each for each in says if each not in message] == [], message
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"identity": "iou"}, "identity=iou: means nothing to a video file.*leave out --identity"),
        ({"allow_absolute_paths": True}, "leave out --allow-absolute-paths"),
        ({"image_root": "x", "colours": "palette"}, "leave out --image-root, --colours"),
    ],
)
def test_settings_of_datasets_mean_nothing_to_a_file(tmp_path, video, settings, says) -> None:
    with pytest.raises(ConfigError, match=says):
        open_sources(str(video(tmp_path / "a.mp4", 2)), DatasetConfig(**settings))


def test_a_dataset_type_that_is_named_must_be_there(tmp_path, frames) -> None:
    with pytest.raises(DataError, match="is no dataset of type video"):
        open_sources(str(frames(tmp_path / "a", 2)), DatasetConfig(dataset_type="video"))
