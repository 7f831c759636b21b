"""Detections matched to tracked objects: who begins, who is prompted anew, who is left alone."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.prediction.association import Association
from sam2vt.core.prediction.detections import Detection
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.errors import ConfigError

HEIGHT, WIDTH = 40, 60


def square(x, y=5, size=10):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + size, x : x + size] = True
    return mask


def boxed(x, name="cup", y=5, size=10):
    return Detection(name, box=(x, y, x + size, y + size), where=f"at {x}")


def masked(x, name="cup"):
    return Detection(name, rle=encode_mask(square(x)), where=f"at {x}")


def tracked(frame, **squares):
    """Objects of a frame: c1=x is object 1, a cup, at x; None is absent."""
    kinds = {"c": "cup", "h": "hand"}
    objects = [
        ObjectMask(int(key[1:]), kinds[key[0]], square(x) if x is not None else square(0, size=0), 1, 1)
        for key, x in squares.items()
    ]
    return FrameMasks(frame, HEIGHT, WIDTH, tuple(objects))


def ids(prompts):
    return [each.object_id for each in prompts]


@pytest.mark.parametrize("kind", [boxed, masked])
def test_objects_begin_where_nothing_is_tracked(kind):
    association = Association({3: [kind(0), kind(20, "hand")]})
    assert association.at(2, None) == ([], {})
    prompts, names = association.at(3, None)
    assert ids(prompts) == [1, 2]
    assert names == {1: "cup", 2: "hand"}
    assert [each.frame for each in prompts] == [3, 3]
    assert [each.where for each in prompts] == ["at 0", "at 20"]
    if kind is boxed:
        assert prompts[0].box == (0, 5, 10, 15)
    else:
        assert np.array_equal(prompts[1].mask, square(20))


@pytest.mark.parametrize("kind", [boxed, masked])
def test_what_matches_is_left_alone_and_the_rest_begins(kind):
    association = Association({4: [kind(30), kind(1), kind(0, "hand")]})
    prompts, names = association.at(4, tracked(4, c1=0, c2=45))
    assert ids(prompts) == [3, 4], "30 matches neither, the hand is no cup"
    assert names == {3: "cup", 4: "hand"}


def test_an_absent_object_matches_nothing():
    prompts, names = Association({1: [boxed(0)]}).at(1, tracked(1, c7=None))
    assert ids(prompts) == [8]
    assert names == {8: "cup"}


def test_an_object_without_a_name_may_be_of_any_class():
    unnamed = FrameMasks(1, HEIGHT, WIDTH, (ObjectMask(5, "", square(0), 1, 1),))
    assert Association({1: [boxed(0, "hand")]}).at(1, unnamed) == ([], {})


def test_the_threshold():
    # 10 pixels wide, moved by d: IoU = (10 - d) / (10 + d).
    for shift, match_iou, matches in ((3, 0.5, True), (4, 0.5, False), (4, 0.4, True), (0, 1.0, True)):
        prompts, _ = Association({0: [boxed(shift)]}, match_iou).at(0, tracked(0, c1=0))
        assert (ids(prompts) == []) is matches


def test_a_pair_below_the_threshold_takes_no_place():
    """The greatest sum of all IoUs would match 0 with 5 and 5 with 10, both below the threshold."""
    association = Association({0: [boxed(5), boxed(10)]}, match_iou=0.6)
    prompts, _ = association.at(0, tracked(0, c1=0, c2=5))
    assert [each.where for each in prompts] == ["at 10"]


def test_the_best_assignment_is_found():
    detections = [boxed(x) for x in (0, 2, 20)]
    for order in permutations(detections):
        prompts, _ = Association({0: list(order)}, 0.4).at(0, tracked(0, c1=1, c2=3, c3=21))
        assert prompts == []


def test_prompted_anew_every_few_frames():
    detections = {frame: [boxed(0)] for frame in range(9)}
    association = Association(detections, reprompt_every=3)
    prompted = []
    for frame in range(9):
        masks = tracked(frame, c1=0) if frame else None
        prompts, names = association.at(frame, masks)
        prompted += [each.frame for each in prompts]
        assert ids(prompts) in ([], [1])
        assert names == ({1: "cup"} if frame == 0 else {})
    assert prompted == [0, 3, 6]


def test_ids_of_other_prompts_are_not_taken():
    assert ids(Association({0: [boxed(0)]}, taken=[4]).at(0, None)[0]) == [5]
    association = Association({1: [boxed(0)]})
    association.at(0, tracked(0, c9=30))
    assert ids(association.at(1, tracked(1))[0]) == [10], "object 9 was removed, its id is not used again"


def test_state_continues_the_same():
    detections = {frame: [boxed(0), boxed(20 + frame % 2)] for frame in range(0, 12, 2)}

    def run(association, frames):
        shown = [tracked(n, c1=0, c2=20 if n < 4 else None) for n in frames]
        return [(association.at(n.frame, n if n.frame else None), association.ended(n)) for n in shown]

    options = {"reprompt_every": 4, "end_after": 3}
    whole = Association(detections, **options)
    expected = run(whole, range(12))
    first = Association(detections, **options)
    start = run(first, range(5))
    second = Association(detections, **options)
    second.restore(json.loads(json.dumps(first.state())))
    assert start + run(second, range(5, 12)) == expected
    assert second.state() == whole.state()


def lasts(detections, masks, **options):
    """Return the frame on which object 1, which begins on frame 0, ends."""
    association = Association({0: [boxed(0)], **detections}, **options)
    for frame, x in enumerate(masks):
        shown = tracked(frame, c1=x)
        if frame in association.detections:
            association.at(frame, shown if frame else None)
        if association.ended(shown):
            return frame
    return None


def test_an_absent_object_ends():
    assert lasts({}, [0, None, None, None, 0], end_after=3) == 3
    assert lasts({}, [0, None, None, 0, None, None, 0], end_after=3) is None, "it came back"
    assert lasts({}, [None, None, None, 0], end_after=2) == 2, "it counts from the frame on which it began"
    assert lasts({}, [0] + [None] * 50) is None, "off by default"


def test_an_object_that_the_detector_sees_no_longer_ends():
    """Between two runs of the detector the latest one counts, and an empty list is one."""
    assert lasts({2: [], 4: []}, [0] * 9, end_after=4) == 5
    assert lasts({2: [], 4: [boxed(0)]}, [0] * 9, end_after=4) is None
    assert lasts({2: [boxed(0, "hand")]}, [0] * 9, end_after=4) == 5, "a hand is no cup"


def test_ids_of_ended_objects_are_not_used_again():
    association = Association({0: [boxed(0)], 2: [boxed(0)]}, end_after=1)
    association.at(0, None)
    assert [association.ended(tracked(n, c1=x)) for n, x in enumerate((0, None))] == [[], [1]]
    prompts, names = association.at(2, tracked(2))
    assert (ids(prompts), names) == ([2], {2: "cup"})


def test_objects_that_the_user_shows_do_not_end():
    association = Association({0: [boxed(30)]}, taken=[1], end_after=1)
    association.at(0, tracked(0, c1=0))
    assert association.ended(tracked(1, c1=None, c2=None)) == [2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"match_iou": 0}, "--match-iou: is 0"),
        ({"match_iou": 1.5}, "--match-iou: is 1.5; allowed is a number above 0, up to 1"),
        ({"match_iou": float("nan")}, "--match-iou: is nan"),
        ({"reprompt_every": -1}, "--reprompt-every: is -1; .*0: never"),
        ({"end_after": -1}, "--end-after: is -1; .*0: never"),
    ],
)
def test_numbers_that_are_not_allowed(fields, message):
    with pytest.raises(ConfigError, match=message):
        Association({}, **fields)
