"""Reads masks of the added kind, also through a record table."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.records.serialization import decode_record, encode_record

video = Path(sys.argv[1], "data", "one")
video.mkdir(parents=True)
for index in range(3):
    label = np.zeros((32, 48), np.int32)
    label[:, : 8 * (index + 1)] = 7000
    np.save(video / f"{index:05d}.npy", label)
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(video / f"{index:05d}.jpg")
(record,) = load_records("video", video.parent)
assert decode_record(encode_record(record)) == record
assert [load_masks(record, index)[7000].sum() for index in range(3)] == [256, 512, 768]
