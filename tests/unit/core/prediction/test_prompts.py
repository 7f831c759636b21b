"""Prompts of one object from options."""

from __future__ import annotations

import pytest

from sam2vt.core.prediction.prompts import prompts_from_options
from sam2vt.core.prediction.types import Click
from sam2vt.errors import DataError


def test_options_are_one_object():
    prompts = prompts_from_options(["5,4", (1.5, 2)], ["9,9"], "2,2,8,8", frame=3)
    prompts.check_videos(["clip"])
    (prompt,) = prompts.for_video("clip", 12, 16, 4).prompts
    assert (prompt.object_id, prompt.frame) == (1, 3)
    assert prompt.clicks == (Click(5, 4), Click(1.5, 2), Click(9, 9, False))
    assert prompt.box == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": ["5"]}, r"--point: is '5'; allowed are 2 numbers, x,y"),
        ({"points": ["5,x"]}, r"--point: is '5,x'"),
        ({"points": ["5,nan"]}, r"--point: is '5,nan'"),
        ({"points": ["5,1e999"]}, r"--point"),
        ({"negatives": ["1,2,3"]}, r"--negative: is '1,2,3'"),
        ({"box": "1,2,3"}, r"--box: is '1,2,3'; allowed are 4 numbers, x0,y0,x1,y1"),
        ({"box": "5,2,1,3"}, r"frame 0: box: .* no area"),
        ({"points": ["1,1"], "frame": -1}, r"--frame: is '-1'"),
        ({}, r"shows nothing; give points"),
        ({"negatives": ["1,1"]}, r"all are negative"),
        ({"points": ["0.4,0.25"]}, r"frame 0: is between 0 and 1.*multiply x by the frame's width"),
        ({"box": "0.1,0.2,0.5,1"}, r"frame 0: is between 0 and 1"),
        ({"points": ["1,1"], "negatives": ["1.2,1"]}, r"on one pixel"),
    ],
)
def test_options_that_say_nothing_or_too_much(options, message):
    with pytest.raises(DataError, match=message):
        prompts_from_options(**options)


def test_the_first_pixel_is_no_share_of_the_frame():
    (prompt,) = prompts_from_options(["0,1"], box="0,0,1,8").for_video("clip", 12, 16, 4).prompts
    assert prompt.box == (0, 0, 1, 8)


def test_options_outside_the_video():
    prompts = prompts_from_options(["20,4"], frame=9)
    with pytest.raises(DataError, match=r"2 faults") as caught:
        prompts.for_video("clip", 12, 16, 4)
    assert "allowed is 0 to 3" in str(caught.value)
    with pytest.raises(DataError, match=r"the source has 2: a, b"):
        prompts.check_videos(["a", "b"])
