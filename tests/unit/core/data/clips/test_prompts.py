"""Prompts from masks: kinds, numbers, places, determinism, faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.errors import ConfigError, DataError


def ring() -> np.ndarray:
    """A ring: its centroid lies outside of it."""
    y, x = np.mgrid[:64, :64]
    radius = np.hypot(x - 32, y - 32)
    return (radius > 14) & (radius < 26)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def at(mask: np.ndarray, coords: torch.Tensor) -> list[bool]:
    return [bool(mask[int(y), int(x)]) for x, y in coords]


def test_attributes_and_defaults():
    generator = PromptGenerator()
    assert generator.prompt_types == ("point", "box", "mask")
    assert (generator.number_of_pos_points, generator.include_center) == (1, False)
    assert generator.num_of_neg_points == 0


@pytest.mark.parametrize("include_center", [False, True])
def test_points_lie_where_their_labels_say(include_center):
    generator = PromptGenerator(["point"], 5, include_center, 3)
    for seed in range(20):
        prompt = generator.generate_prompts(ring(), rng=rng(seed))
        assert prompt["type"] == "point"
        assert prompt["point_coords"].shape == (8, 2)
        assert prompt["point_coords"].dtype == torch.float32
        assert prompt["point_labels"].dtype == torch.int32
        assert prompt["point_labels"].tolist() == [1] * 5 + [0] * 3
        assert at(ring(), prompt["point_coords"]) == [True] * 5 + [False] * 3
        assert len({tuple(point) for point in prompt["point_coords"].tolist()}) == 8


def test_centre_is_the_deepest_pixel_and_counts_as_one_positive():
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:16, 10:21] = True
    prompt = PromptGenerator(["point"], 1, include_center=True).generate_prompts(mask, rng=rng())
    assert prompt["point_coords"].tolist() == [[15, 10]]


def test_the_images_edge_counts_as_outside_for_the_centre():
    mask = np.zeros((40, 60), dtype=bool)
    mask[:, :21] = True
    prompt = PromptGenerator(["point"], 1, include_center=True).generate_prompts(mask, rng=rng())
    assert prompt["point_coords"][0, 0] == 10


@pytest.mark.parametrize(("rows", "columns"), [((39, 40), (7, 8)), ((4, 5), (59, 60)), ((39, 40), (59, 60))])
def test_the_deepest_pixel_may_be_at_the_images_end(rows, columns):
    mask = np.zeros((40, 60), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    prompt = PromptGenerator(["point"], 1, include_center=True).generate_prompts(mask, rng=rng())
    assert prompt["point_coords"].tolist() == [[columns[0], rows[0]]]


@pytest.mark.parametrize("include_center", [False, True])
def test_as_many_points_as_pixels_are_all_of_them(include_center):
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 1:] = mask[2, 1] = True
    positive = [[1, 1], [1, 2], [2, 1], [3, 1]]
    negative = [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0], [2, 2], [3, 0], [3, 2]]
    prompt = PromptGenerator(["point"], 4, include_center, 8).generate_prompts(mask, rng=rng())
    points = prompt["point_coords"].tolist()
    assert (sorted(points[:4]), sorted(points[4:])) == (positive, negative)


def test_number_of_positives_covers_its_inclusive_range():
    generator = PromptGenerator(["point"], (1, 3))
    numbers = {len(generator.generate_prompts(ring(), rng=rng(i))["point_labels"]) for i in range(40)}
    assert numbers == {1, 2, 3}


def test_a_kind_named_twice_is_drawn_twice_as_often():
    generator, shared = PromptGenerator(["mask", "mask", "point", "bbox"]), rng(3)
    assert generator.prompt_types == ("mask", "mask", "point", "box")
    drawn = [generator.generate_prompts(ring(), rng=shared)["type"] for _ in range(800)]
    shares = [drawn.count(kind) / len(drawn) for kind in ("mask", "point", "box")]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.05)


def test_box_is_two_corner_points():
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:9, 10:21] = True
    for name in ("box", "bbox"):
        prompt = PromptGenerator([name]).generate_prompts(mask)
        assert prompt["type"] == "box"
        assert prompt["point_coords"].tolist() == [[10, 5], [20, 8]]
        assert prompt["point_labels"].tolist() == [2, 3]


def test_mask_prompt_is_a_copy_of_the_mask():
    mask = torch.from_numpy(ring())
    prompt = PromptGenerator(["mask"]).generate_prompts(mask)
    assert prompt["mask"].dtype == torch.bool
    assert torch.equal(prompt["mask"], mask)
    prompt["mask"].zero_()
    assert mask.any()


def test_every_kind_is_drawn_and_the_state_of_rng_decides():
    generator = PromptGenerator(num_of_pos_points=(1, 3), num_of_neg_points=1)
    kinds = set()
    for seed in range(30):
        one, two = (generator.generate_prompts(ring(), rng=rng(seed)) for _ in range(2))
        kinds.add(one["type"])
        assert one["type"] == two["type"]
        for name in one.keys() - {"type"}:
            assert torch.equal(one[name], two[name])
    assert kinds == {"point", "box", "mask"}


def test_the_kind_can_be_set():
    generator = PromptGenerator()
    assert {generator.generate_prompts(ring(), prompt_type="bbox")["type"] for _ in range(8)} == {"box"}


def test_few_pixels_give_few_points():
    dot = np.zeros((32, 32), dtype=bool)
    dot[3, 4] = True
    generator = PromptGenerator(["point"], 3, num_of_neg_points=2)
    prompt = generator.generate_prompts(dot)
    assert prompt["point_labels"].tolist() == [1, 0, 0]
    full = generator.generate_prompts(~np.zeros((32, 32), dtype=bool))
    assert full["point_labels"].tolist() == [1, 1, 1]
    assert generator.generate_prompts(~dot)["point_labels"].tolist() == [1, 1, 1, 0]


def test_empty_mask_and_wrong_shape_are_errors():
    with pytest.raises(DataError, match="empty mask of 48x32"):
        PromptGenerator(["box"]).generate_prompts(np.zeros((32, 48), dtype=bool))
    with pytest.raises(DataError, match=r"\[1, 32, 48\]"):
        PromptGenerator().generate_prompts(np.ones((1, 32, 48), dtype=bool))


@pytest.mark.parametrize("given", [["point", "scribble"], [], "boxes", [3], [["box"]], [None]])
def test_unknown_kinds_are_errors_that_list_what_is_allowed(given):
    with pytest.raises(ConfigError, match="allowed are point, box, mask, bbox"):
        PromptGenerator(given)


def test_a_refusal_names_the_first_unknown_kind():
    with pytest.raises(ConfigError, match=r"unknown prompt type 'scribble'; allowed"):
        PromptGenerator(["point", "scribble", "doodle"])
    with pytest.raises(ConfigError, match=r"prompt_types=\[\]: an empty list; allowed"):
        PromptGenerator([])
    assert PromptGenerator("bbox").prompt_types == ("box",)


@pytest.mark.parametrize("number", [0, (0, 2), (3, 1), (1, 2, 3), 1.5, (1, 2.5)])
def test_bad_numbers_of_points_are_errors(number):
    with pytest.raises(ConfigError, match="positive points"):
        PromptGenerator(["point"], number)
    with pytest.raises(ConfigError, match="num_of_neg_points=-1"):
        PromptGenerator(["point"], num_of_neg_points=-1)


def test_settings_without_effect_are_errors_that_name_both():
    with pytest.raises(ConfigError, match=r"include_center=True .*prompt_types=\['mask'\]"):
        PromptGenerator(["mask"], include_center=True)
    with pytest.raises(ConfigError, match=r"num_of_neg_points=2 .*prompt_types=\['box'\]"):
        PromptGenerator(["bbox"], num_of_neg_points=2)
