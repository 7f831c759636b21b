"""Each example of a file of prompts or detections in the docs is read, and fits a video as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.prediction.detection_files import read_detections
from sam2vt.core.prediction.mask_prompts import prompts_from_masks
from sam2vt.core.prediction.prompt_files import read_prompts
from sam2vt.core.prediction.prompts import prompts_from_options

PAGE = Path(__file__).resolve().parents[4] / "docs" / "masks-on-new-videos.md"
SIZE = 480, 854
MASK = np.zeros(SIZE, dtype=np.uint8)
MASK[80:420, 350:610] = 255


def section():
    text = PAGE.read_text()
    return re.split(r"^## ", text.partition("\n## Prompts\n")[2], flags=re.M)[0]


def examples():
    return re.findall(r"^```json\n(.*?)^```", section(), re.M | re.S)


@pytest.fixture
def files(tmp_path):
    """The examples as files, in their order on the page."""
    paths = []
    for number, text in enumerate(examples()):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(text)
    assert len(paths) == 5
    return list(map(str, paths))


def test_prompts(files, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(MASK).save(tmp_path / "masks" / "cup.png")
    prompts = read_prompts(files[0])
    prompts.check_videos(["kitchen"])
    found = prompts.for_video("kitchen", *SIZE, 50)
    assert [(each.frame, each.object_id) for each in found.prompts] == [
        (0, 1),
        (7, 1),
        (9, 1),
        (12, 1),
        (30, 2),
    ]
    assert (found.names, found.removals) == ({1: "cup", 2: "hand"}, {1: 40})
    assert read_prompts(files[1]).for_video("any", *SIZE, 50).prompts[0].box == (350, 80, 610, 420)


def test_the_table_of_fields_names_them_all(files):
    objects = json.loads(Path(files[0]).read_text())["videos"]["kitchen"]["objects"]
    fields = {field for each in objects for field in each} - {"prompts"}
    fields |= {field for each in objects for prompt in each["prompts"] for field in prompt}
    assert fields <= set(re.findall(r"`(\w+)`", section()))


def test_detections(files):
    for path, images, classes in ((files[2], None, ["cup", "hand"]), (files[3], files[4], ["cup"])):
        found = read_detections(path, ["kitchen"], images).for_video("kitchen", *SIZE, 2 if images else 50)
        assert [each.name for each in found[0]] == classes
        assert found[0][0].box == (350, 80, 610, 420)
    assert list(read_detections(files[3], ["kitchen"]).for_video("kitchen", *SIZE, 50)) == [7]


def test_options():
    words = re.search(r"`(--point .*?)`", section())[1].split()
    given = dict(zip(words[::2], words[1::2]))
    prompts = prompts_from_options(
        [given["--point"]], [given["--negative"]], given["--box"], int(given["--frame"])
    )
    (prompt,) = prompts.for_video("any", *SIZE, 50).prompts
    assert (len(prompt.clicks), prompt.frame) == (2, 12)


@pytest.mark.parametrize("place", ["", "kitchen", "kitchen/3"])
def test_masks(tmp_path, place):
    assert "`00012.png`" in section()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    Image.fromarray(MASK).save(tmp_path / place / "00012.png")
    (prompt,) = prompts_from_masks(str(tmp_path), {"kitchen": None}).for_video("kitchen", *SIZE, 50).prompts
    assert (prompt.frame, prompt.object_id) == (12, 3 if "3" in place else 1)
