"""The command that a run ends with."""

from __future__ import annotations

import shlex
from pathlib import Path

from sam2vt.cli import parser_of
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.prediction.sources import open_sources
from sam2vt.core.prediction.suggestion import suggest_prediction


def test_it_clicks_an_object_of_a_video_and_asks_for_nothing_else(tmp_path: Path) -> None:
    write_sample_data(tmp_path / "my data", 1, 4)
    (record,) = load_records("video", tmp_path / "my data")
    command = shlex.split(suggest_prediction("runs/mine", record))
    assert command[:2] == ["sam2vt", "predict"]
    options = parser_of("predict").parse_args(command[2:])
    x, y = map(int, options.point[0].split(","))
    masks = load_masks(record, options.frame)
    assert masks[min(masks)][y, x]
    (source,) = open_sources(options.source)
    assert (source.num_frames, source.has_masks) == (4, False)
