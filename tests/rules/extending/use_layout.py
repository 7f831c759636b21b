"""Reads a dataset of the added layout."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks

video = Path(sys.argv[1], "data", "one")
video.mkdir(parents=True)
for index in range(3):
    label = np.zeros((32, 48), np.uint8)
    label[:, : 8 * (index + 1)] = 1
    Image.fromarray(label).save(video / f"{index:05d}_mask.png")
    Image.fromarray(np.stack([label * 200] * 3, -1)).save(video / f"{index:05d}.jpg")
for dataset_type in ("auto", "side_by_side"):
    (record,) = load_records(dataset_type, video.parent)
    assert [load_masks(record, index)[1].sum() for index in range(3)] == [256, 512, 768]
