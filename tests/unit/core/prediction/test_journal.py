"""The journal: the same bytes for the same masks, continued where a state was saved, checked when read."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from sam2vt.core.prediction.journal import Journal, TrackedVideo
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.errors import DataError

HEIGHT, WIDTH = 7, 9


def masks_of(frame: int, keys: tuple[int, ...] = (2, 5), seed: int = 0) -> FrameMasks:
    rng = np.random.default_rng([seed, frame])
    objects = (
        ObjectMask(key, "", rng.random((HEIGHT, WIDTH)) < 0.4, float(np.float32(0.98)), 1 / 3) for key in keys
    )
    return FrameMasks(frame, HEIGHT, WIDTH, tuple(objects))


def video_of(path: Path, num_frames: int, names: dict[int, str] | None = None) -> TrackedVideo:
    stems = tuple(f"{i:05d}" for i in range(num_frames))
    return TrackedVideo("v", "a/v", HEIGHT, WIDTH, num_frames, stems, names or {}, path, None)


def written(path: Path, frames: list[FrameMasks]) -> Path:
    with Journal(path) as journal:
        for each in frames:
            journal.append(each)
    return path


def same(left: FrameMasks, right: FrameMasks) -> bool:
    return left.frame == right.frame and all(
        a.object_id == b.object_id and np.array_equal(a.mask, b.mask)
        for a, b in zip(left.objects, right.objects, strict=True)
    )


def test_a_line_is_as_documented(tmp_path: Path) -> None:
    path = written(tmp_path / "deep" / "v.jsonl", [masks_of(0), masks_of(1, ())])
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert list(first) == ["frame", "objects"]
    assert [list(each) for each in first["objects"]] == [["id", "counts", "presence", "iou"]] * 2
    assert (first["objects"][0]["presence"], first["objects"][0]["iou"]) == (0.98, 0.3333)
    assert second == {"frame": 1, "objects": []}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 1, 0)])
def test_frames_are_read_in_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    video = video_of(written(tmp_path / "v.jsonl", [masks_of(i) for i in order]), 4, {5: "cat", 8: "dog"})
    found = list(video.frames())
    assert all(same(masks_of(i), each) for i, each in enumerate(found))
    assert [each.name for each in found[0].objects] == ["", "cat"]
    assert video.object_ids == (2, 5, 8)


def test_lines_of_a_frame_are_united_and_the_last_one_counts(tmp_path: Path) -> None:
    frames = [masks_of(1, (5,)), masks_of(1, (2,), seed=1), masks_of(1, (5,), seed=2)]
    found = list(video_of(written(tmp_path / "v.jsonl", frames), 3).frames())
    assert [len(each.objects) for each in found] == [0, 2, 0]
    assert np.array_equal(found[1].masks[2], frames[1].masks[2])
    assert np.array_equal(found[1].masks[5], frames[2].masks[5])


def test_continued_at_an_offset_it_has_the_same_bytes(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", [masks_of(i) for i in range(4)]).read_bytes()
    with Journal(tmp_path / "v") as journal:
        journal.append(masks_of(0))
        journal.append(masks_of(1))
        saved = journal.offset
        journal.append(masks_of(2, seed=9))
    with (tmp_path / "v").open("ab") as file:
        file.write(b'{"frame":3,"obj')  # a kill in the middle
    with Journal(tmp_path / "v", saved) as journal:
        journal.append(masks_of(2))
        journal.append(masks_of(3))
        journal.sync()
        assert journal.offset == len(whole)
    assert (tmp_path / "v").read_bytes() == whole


def test_begun_anew_it_is_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "v", [masks_of(0)])
    with Journal(path) as journal:
        assert journal.offset == 0
    assert path.read_bytes() == b""


@pytest.mark.parametrize("exists", [False, True])
def test_a_state_without_its_masks_is_refused(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "v").write_bytes(b"short")
    with pytest.raises(DataError, match=f"has {5 if exists else 0} bytes.*needs 99.*predict again"):
        Journal(tmp_path / "v", 99)


def test_scores_that_are_no_numbers_come_back_as_such(tmp_path: Path) -> None:
    mask = ObjectMask(1, "", np.ones((HEIGHT, WIDTH), bool), math.nan, math.inf)
    path = written(tmp_path / "v", [FrameMasks(0, HEIGHT, WIDTH, (mask,))])
    (frame,) = video_of(path, 1).frames()
    assert math.isnan(frame.objects[0].presence)
    assert math.isnan(frame.objects[0].iou)


GOOD = '{"frame":0,"objects":[{"id":1,"counts":"o1","presence":1.0,"iou":0.5}]}\n'  # 63 pixels of ground
BAD = {
    "no JSON": ("garbage\n", "no whole line"),
    "cut": (GOOD[:-1], "no whole line"),
    "cut within": (GOOD[:40] + "\n", "damaged: JSONDecodeError"),
    "another frame": (GOOD.replace(":0,", ":7,"), "frame 7 is not in the video"),
    "counts too short": (GOOD.replace("o1", "n1"), "object 1: RLE counts sum to 62, not to"),
    "counts that lie": (GOOD.replace("o1", "o1oooooooo0"), "object 1: RLE counts cannot be read"),
    "counts as a list": (GOOD.replace('"o1"', "[63]"), "object '1' has no number, or no counts"),
    "id as text": (GOOD.replace('"id":1', '"id":"1"'), "has no number"),
    "id beyond 64 bits": (GOOD.replace('"id":1', f'"id":{2**64}'), "has no number"),
    "no score": (GOOD.replace('"iou":0.5', '"x":0.5'), "damaged: KeyError"),
    "score as a list": (GOOD.replace("0.5", "[]"), "damaged: TypeError"),
    "objects as numbers": ('{"frame":0,"objects":[7]}\n', "damaged: TypeError"),
    "nested without end": ('{"frame":0,"objects":[' + "[" * 100_000 + "\n", "damaged: RecursionError"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_line_is_named(tmp_path: Path, name: str) -> None:
    line, says = BAD[name]
    (tmp_path / "v").write_text(GOOD + line)
    with pytest.raises(DataError) as caught:
        list(video_of(tmp_path / "v", 2).frames())
    message = str(caught.value)
    assert f"{tmp_path / 'v'}: line 2 (video a/v)" in message
    assert says in message
    assert len(message) < 500 + len(str(tmp_path))


def test_the_good_line_is_good(tmp_path: Path) -> None:
    (tmp_path / "v").write_text(GOOD)
    (frame,) = video_of(tmp_path / "v", 1).frames()
    assert not frame.masks[1].any()


def test_a_journal_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone.jsonl: cannot be read"):
        list(video_of(tmp_path / "gone.jsonl", 1).frames())


def test_a_full_disk_keeps_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A disk that takes ten bytes more."""

        def __init__(self, file) -> None:
            self.file, self.left = file, 10

        def write(self, data: memoryview) -> int:
            if not self.left:
                raise OSError(28, "No space left on device")
            taken, self.left = self.file.write(data[: self.left]), 0
            return taken

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    with Journal(tmp_path / "v") as journal:
        journal.append(masks_of(0))
        before = (tmp_path / "v").read_bytes()
        monkeypatch.setattr(journal, "_file", Full(journal._file))
        with pytest.raises(DataError, match="v: cannot be written: No space left.*free some space"):
            journal.append(masks_of(1))
    assert (tmp_path / "v").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written: Permission denied"):
        Journal(tmp_path / "v")
