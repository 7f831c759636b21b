"""Clips that cannot be made, and the blank ones in their place."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import draw_blank, make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.dataset import VideoDataset
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.feature_cache import as_tensors
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.types import SampleKey
from sam2vt.errors import DataError


@pytest.fixture
def dataset(tmp_path):
    """A folder of frames and an mp4, both with masks."""
    write_sample_data(tmp_path / "data", num_videos=2, num_frames=6, size=(48, 64))
    return VideoDataset(str(tmp_path / "data"), (64, 64), 6)


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
def test_a_blank_clip(kind) -> None:
    clip = as_tensors(draw_blank(ClipSpec((64, 64), 3, PromptGenerator([kind])), "v"))
    assert clip["images"].shape == (3, 3, 64, 64)
    assert clip["masks"].shape == (3, 1, 64, 64)
    assert not clip["masks"].any()
    assert not clip["valid_masks"].any()
    assert [(p["type"], p["object_index"], p["frame_index"]) for p in clip["prompts"]] == [(kind, 0, 2)]
    assert (clip["video_id"], clip["frame_indices"], clip["num_objects"]) == ("v", [-1, -1, -1], 1)
    assert "quarantined" not in clip


def vanish_mask(dataset) -> str:
    """A mask that is listed is gone by the time that it is read."""
    path = dataset.records[0].annotations[3].path
    os.remove(path)
    return path


def break_video(dataset) -> str:
    path = dataset.records[1].video_path
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 3)
    return path


def lose_video(dataset) -> str:
    path = dataset.records[1].video_path
    os.remove(path)
    return path


@pytest.mark.parametrize(("fault", "video"), [(vanish_mask, 0), (break_video, 1), (lose_video, 1)])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_faults_during_a_run(dataset, fault, video, num_workers) -> None:
    sound = dataset[SampleKey(4, 3 - video)]
    path = fault(dataset)
    with pytest.raises(DataError, match=os.path.basename(path)):
        dataset[SampleKey(4, video)]
    dataset.quarantine = True
    keys = [SampleKey(4, video), SampleKey(4, 3 - video)]
    loader = DataLoader(dataset, 2, sampler=keys, collate_fn=collate_fn, num_workers=num_workers)
    (batch,) = loader
    (entry,) = batch["quarantined"]
    record = dataset.records[video]
    assert path in entry.pop("error")
    assert entry == {"epoch": 4, "index": video, "video_id": record.video_id, "source": record.source}
    assert batch["video_id"] == [record.video_id, sound["video_id"]]
    assert not batch["valid_masks"][0].any()
    assert torch.equal(batch["images"][1], sound["images"])  # its neighbours are as they were
    assert torch.equal(batch["masks"][1, :, : sound["num_objects"]], sound["masks"])


def test_sound_clips_do_not_change(dataset) -> None:
    records = load_records("auto", dataset.data_path)
    clips = [make_clip(records, SampleKey(0, 1), dataset.spec, quarantine) for quarantine in (False, True)]
    assert torch.equal(clips[0]["images"], clips[1]["images"])
    assert "quarantined" not in collate_fn(clips)


def test_decoders_load_no_torch(dataset) -> None:
    """It takes half a GB of memory in every decoder, and seconds to load."""
    code = """
import sys
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.clips.drawing import draw_clip
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.sampling import sample_at
from sam2vt.distributed.stream.wire import pack_clips
records = load_records("auto", sys.argv[1])
key = sample_at(0, 2, 1, 0, True)
clip = draw_clip(records, key, ClipSpec((64, 64), 3, PromptGenerator(["point", "mask"])))
print(pack_clips([clip], [0])["images"].shape, {"torch", "torchvision", "lightning"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code, dataset.data_path]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "(1, 3, 3, 64, 64) set()"
