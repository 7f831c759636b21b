"""The processes that only pass clips on load no torch: each would wait seconds for it and hold 0.5 GB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sam2vt.config import Config
from sam2vt.core.data.opening import open_train_val
from sam2vt.core.data.records.table import write_records
from sam2vt.core.data.writing.sample_data import write_sample_data

# In one process, since Ray alone takes two seconds to import.
CODE = """
import sys

import numpy as np
import ray

import sam2vt
import sam2vt.cli
from sam2vt.config import Config
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.records.table import RecordTable
from sam2vt.distributed.cluster import cleaner
from sam2vt.distributed.stream import decode, plan, start, wire
from sam2vt.distributed.worker import entry

table = RecordTable(sys.argv[1])
config = Config()
config.ray.num_workers, config.dataset.batch_size = 1, len(table)
sampling = {"num_videos": len(table), "clips_per_video": 1, "seed": 0, "shuffle": True}
spec = ClipSpec((32, 32), 2, PromptGenerator(["point", "box", "mask"]))
ray.get = lambda job: job
division = plan.Division(plan.plan_stream(config, len(table)), 1)
decoder = decode.ClipDecoder(decode.DecodeJob(table, spec, sampling), division, 0)
rows = decoder({"id": np.arange(len(table))})
print(rows["images"].shape, b"error" in rows["meta"][0], "torch" in sys.modules)
"""


def test_decoders_and_the_entries_of_workers_load_no_torch(tmp_path: Path) -> None:
    write_sample_data(tmp_path / "videos", num_videos=2, num_frames=3, size=(32, 32))
    config = Config()
    config.dataset.data_path = str(tmp_path / "videos")
    write_records(open_train_val(config)[0], tmp_path / "records.parquet")
    command = [sys.executable, "-c", CODE, str(tmp_path / "records.parquet")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "(2, 2, 3, 32, 32) False False\n", done.stderr
