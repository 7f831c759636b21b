"""Small datasets of the kinds that records are read from, of 24 x 32 pixels and a few frames each."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam2vt.core.data.writing.encoding import write_video

SIZE = (24, 32)
LEFT, RIGHT, LOWER = np.s_[2:10, 2:10], np.s_[2:10, 20:28], np.s_[14:22, 8:16]
POLYGON = [[4, 4, 20, 4, 20, 16, 4, 16]]
COLOURS = {"background": (0, 0, 0), "cat": (255, 0, 0), "dog": (0, 255, 0), "void": (255, 255, 255)}


def write_sources(folder: Path) -> None:
    """A folder for each kind; what `sam2vt convert` writes is not among them."""
    for write in (_mots, _colours, _ctc, _youtube_vos, _stills, _youtube_vis, _supervisely):
        write(folder / write.__name__.lstrip("_"))


def _picture(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack([rows * 9, columns * 7, (rows + columns + 20 * number) * 3 % 256], -1)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _regions(path: Path, regions: Any, dtype: type = np.uint16, base: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(SIZE, base, dtype)
    for region, value in regions:
        pixels[region] = value
    Image.fromarray(pixels).save(path)


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _mots(root: Path) -> None:
    """Class 10 is void; the classes have names."""
    for i in range(2):
        _picture(root / f"images/0002/{i:06d}.png", i)
        regions = [(LEFT, 1001), (RIGHT, 2003), (LOWER, 10000)]
        _regions(root / f"instances/0002/{i:06d}.png", regions)


def _colours(root: Path) -> None:
    for i in range(2):
        _picture(root / f"JPEGImages/shelf/{i:05d}.png", i)
        pixels = np.zeros((*SIZE, 3), np.uint8)
        for region, name in ((LEFT, "cat"), (RIGHT, "dog"), (LOWER, "void")):
            pixels[region] = COLOURS[name]
        path = root / f"Annotations/shelf/{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def _ctc(root: Path) -> None:
    """Frames of 16 bits; track 3 is a daughter of 2; on frame 0 one outline is missing, one has no marker."""
    for i in range(4):
        _regions(root / f"01/t{i:03d}.tif", [(LEFT, 1050), (RIGHT, 1100)], base=1000)
        centres = [(np.s_[5:7, 5:7], 1), (np.s_[5:7, 23:25], 2 if i < 2 else 3)]
        _regions(root / f"01_GT/TRA/man_track{i:03d}.tif", centres)
    _regions(root / "01_GT/SEG/man_seg000.tif", [(LEFT, 40), (LOWER, 42)])
    _regions(root / "01_GT/SEG/man_seg002.tif", [(LEFT, 40), (RIGHT, 41)])
    (root / "01_GT/TRA/man_track.txt").write_text("1 0 3 0\n2 0 1 0\n3 2 3 2\n")


def _youtube_vos(root: Path) -> None:
    for number in range(0, 15, 5):
        _picture(root / f"JPEGImages/003234/{number:05d}.jpg", number)
        path = root / f"Annotations/003234/{number:05d}.png"
        _regions(path, [(LEFT, 1), (RIGHT, 2)], np.uint8)
    objects = {"1": {"category": "penguin"}, "2": {"category": "seal"}}
    for each in objects.values():
        each["frames"] = ["00000"]  # type: ignore[assignment]
    _json(root / "meta.json", {"videos": {"003234": {"objects": objects}}})


def _stills(root: Path) -> None:
    images = [{"id": i, "file_name": f"a_{i}.jpg", "height": 24, "width": 32} for i in range(2)]
    for i, image in enumerate(images):
        _picture(root / str(image["file_name"]), i)
    annotations = [
        {"id": n, "image_id": image, "category_id": 1, "segmentation": POLYGON}
        for n, image in enumerate((0, 0, 1))
    ]
    categories = [{"id": 1, "name": "cell"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _json(root / "_annotations.coco.json", content)


def _youtube_vis(root: Path) -> None:
    names = [f"clip/{i:05d}.jpg" for i in range(3)]
    for i, name in enumerate(names):
        _picture(root / "train/JPEGImages" / name, i)
    uncompressed = {"size": list(SIZE), "counts": [5, 10, 753]}
    content = {
        "videos": [{"id": 1, "file_names": names, "height": 24, "width": 32, "length": 3}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 3, "segmentations": [POLYGON] * 3},
            {"id": 2, "video_id": 1, "category_id": 9, "segmentations": [None, uncompressed, uncompressed]},
        ],
        "categories": [{"id": 3, "name": "fish"}],
    }
    _json(root / "train.json", content)


def _supervisely(root: Path) -> None:
    """A bitmap, a polygon, and a polygon with a hole."""
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 255, 255], [255, 255, 0]], np.uint8)).save(buffer, "PNG")
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    bitmap = {
        "objectKey": "k1",
        "geometryType": "bitmap",
        "geometry": {"bitmap": {"data": data, "origin": [10, 5]}},
    }

    def polygon(interior: list[Any]) -> dict[str, Any]:
        points = {"exterior": [[4, 4], [20, 4], [20, 16], [4, 16]], "interior": interior}
        return {"objectKey": "k2", "geometryType": "polygon", "geometry": {"points": points}}

    frames = [
        {"index": 0, "figures": [bitmap, polygon([])]},
        {"index": 2, "figures": [polygon([[[8, 8], [12, 8], [12, 12], [8, 12]]])]},
    ]
    content = {
        "size": {"height": SIZE[0], "width": SIZE[1]},
        "framesCount": 3,
        "objects": [{"key": "k1", "classTitle": "tool"}, {"key": "k2", "classTitle": "organ"}],
        "frames": frames,
    }
    _json(root / "ds0/ann/clip.mp4.json", content)
    (root / "ds0/video").mkdir(parents=True)
    write_video(root / "ds0/video/clip.mp4", [np.full((*SIZE, 3), 60 * i, np.uint8) for i in range(3)], fps=5)
    _json(root / "meta.json", {})
