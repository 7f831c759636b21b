"""Varied and held-out scenes: what they promise to a training, and to those who judge it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.writing.sample_data import INGREDIENTS, write_sample_data
from sam2vt.core.data.writing.sprites import SIDE, Shape
from sam2vt.core.data.writing.textures import Texture
from sam2vt.core.data.writing.varied import VariedScene, draw_varied_scene
from sam2vt.errors import ConfigError

SIZE, NUM_FRAMES = (48, 64), 16
TEXTURES = {name: each for look in INGREDIENTS.values() for name, each in look.textures.items()}
SHAPES = {name: each for look in INGREDIENTS.values() for name, each in look.shapes.items()}


def drawn(style: str, seed: int) -> VariedScene:
    return draw_varied_scene(np.random.default_rng(seed), NUM_FRAMES, SIZE, INGREDIENTS[style])


@pytest.fixture(scope="module")
def scenes() -> list[tuple[VariedScene, np.ndarray]]:
    """Thirty scenes, each with its labels [frames, h, w]."""
    found = [drawn(style, seed) for seed in range(15) for style in INGREDIENTS]
    return [(scene, np.stack([scene.frame(i)[1] for i in range(NUM_FRAMES)])) for scene in found]


def test_no_texture_or_shape_is_of_both_styles() -> None:
    one, other = INGREDIENTS.values()
    assert not set(one.textures) & set(other.textures)
    assert not set(one.textures.values()) & set(other.textures.values())
    assert not set(one.shapes.values()) & set(other.shapes.values())


@pytest.mark.parametrize("texture", TEXTURES.values(), ids=TEXTURES)
def test_textures_are_colours_with_structure(texture: Texture) -> None:
    contrasts = []
    for seed in range(5):
        image = texture(np.random.default_rng(seed), (64, 96))
        assert image.shape == (64, 96, 3)
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert np.array_equal(image, texture(np.random.default_rng(seed), (64, 96)))
        contrasts.append(image.std((0, 1)).max())
    assert np.median(contrasts) > 0.05
    assert min(contrasts) > 0.005


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shapes_fill_part_of_their_square(shape: Shape) -> None:
    for seed in range(10):
        inside = shape(np.random.default_rng(seed))
        assert inside.shape == (SIDE, SIDE)
        assert set(np.unique(inside)) == {0.0, 1.0}
        assert 0.1 < inside.mean() < 0.9


def test_what_is_followed_is_in_view_at_first_and_half_of_the_time(scenes) -> None:
    for scene, labels in scenes:
        ids = sorted(filter(None, scene.ids))
        assert ids == list(range(1, len(ids) + 1))
        for object_id in ids:
            area = (labels == object_id).mean((1, 2))
            assert area[0] > 0.008
            assert (area > 0).mean() >= 0.4


def test_everything_happens_that_is_promised(scenes) -> None:
    numbers = {len(list(filter(None, scene.ids))) for scene, _ in scenes}
    assert numbers == {1, 2, 3}
    assert any(0 in scene.ids for scene, _ in scenes)  # others distract
    away = [
        np.flatnonzero(np.diff((labels == object_id).any((1, 2)).astype(int)) == 1).size
        for scene, labels in scenes
        for object_id in filter(None, scene.ids)
    ]
    assert sum(each > 0 for each in away) >= 2  # come back after they were hidden or left
    views = [scene.camera.views for scene, _ in scenes]
    assert any(not view.any() for view in views)
    assert any(view.any() for view in views)


def test_repeating_the_first_mask_fails(scenes) -> None:
    def held(labels: np.ndarray, object_id: int) -> float:
        first, later = labels[0] == object_id, labels[1:] == object_id
        union = (first | later).sum((1, 2))
        return float(((first & later).sum((1, 2)) / np.maximum(union, 1)).mean())

    scores = [held(labels, each) for scene, labels in scenes for each in filter(None, scene.ids)]
    assert np.mean(scores) < 0.5


@pytest.mark.parametrize("style", INGREDIENTS)
def test_the_same_seed_writes_the_same_files(tmp_path: Path, style: str) -> None:
    for name in ("a", "b"):
        write_sample_data(tmp_path / name, 2, 4, SIZE, seed=7, style=style)
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert files[0] == files[1]
    records = load_records("auto", str(tmp_path / "a"))
    assert [record.video_id for record in records] == ["sample_00", "sample_01"]
    for png in (tmp_path / "a").rglob("*.png"):
        labels = np.array(Image.open(png))
        assert set(np.unique(labels)) <= {0, 1, 2, 3}


def test_an_unknown_style_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="style=bright: allowed are plain, varied, held-out"):
        write_sample_data(tmp_path / "a", style="bright")
    assert not (tmp_path / "a").exists()
