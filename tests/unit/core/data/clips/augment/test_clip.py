"""Augmented clips: every setting does something, and the same sample is the same bytes anywhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam2vt.composing import compose_config
from sam2vt.config import AugmentConfig
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.clips.drawing import draw_clip, make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.dataset import create_dataloader
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.types import SampleKey
from sam2vt.errors import ConfigError, DataError

EVERYTHING: dict[str, Any] = {
    "mosaic_probability": 0.5,
    "paste_probability": 0.5,
    "flip_probability": 0.5,
    "degrees": 20.0,
    "translate": 0.1,
    "scale": (0.8, 1.2),
    "shear": 10.0,
    "crop_area": (0.6, 1.0),
    "crop_ratio": (0.8, 1.25),
    "scale_jitter": (0.8, 1.2),
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "grayscale_probability": 0.3,
    "frame_brightness": 0.1,
    "frame_contrast": 0.1,
    "frame_saturation": 0.1,
    "blur_probability": 0.4,
    "blur_sigma": (0.5, 3.0),
    "noise_probability": 0.4,
    "noise_std": (0.02, 0.1),
    "jpeg_probability": 0.4,
    "jpeg_quality": (20, 60),
}
# A setting, its value, and what it needs beside it.
EFFECTS = [
    *(({}, name, 1.0) for name in EVERYTHING if name.endswith("_probability")),
    *(({}, name, EVERYTHING[name]) for name in ("degrees", "translate", "scale", "shear", "scale_jitter")),
    *(({}, name, EVERYTHING[name]) for name in ("crop_area", "crop_ratio", "hue")),
    *(({}, f"{of}{name}", 0.4) for of in ("", "frame_") for name in ("brightness", "contrast", "saturation")),
    ({"blur_probability": 1.0}, "blur_sigma", (3.0, 3.0)),
    ({"noise_probability": 1.0}, "noise_std", (0.2, 0.2)),
    ({"jpeg_probability": 1.0}, "jpeg_quality", (5, 5)),
]
SPEC = ClipSpec((64, 64), 3, PromptGenerator(None, (1, 3), num_of_neg_points=1), max_objects=2)
KEYS = [SampleKey(epoch, index) for epoch in (0, 1) for index in range(6)]


def digest(value: Any) -> str:
    state = hashlib.sha256()

    def add(each: Any) -> None:
        if isinstance(each, torch.Tensor):
            each = each.numpy()
        if isinstance(each, np.ndarray):
            state.update(f"{each.dtype}{each.shape}".encode() + each.tobytes())
        elif isinstance(each, dict):
            for key in sorted(each):
                add((key, each[key]))
        elif isinstance(each, (list, tuple)):
            for one in each:
                add(one)
        else:
            state.update(repr(each).encode())

    add(value)
    return state.hexdigest()


def digests(folder: str, settings: dict[str, Any]) -> list[str]:
    """Of the clips that any process draws of the folder."""
    from sam2vt.core.data.formats import load_records

    records = load_records("video", folder)
    spec = replace(SPEC, augment=AugmentConfig(**settings))
    return [digest(draw_clip(records, key, spec)) for key in KEYS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos of noise and moving shapes."""
    path = tmp_path_factory.mktemp("augment") / "data"
    write_sample_data(str(path), num_videos=3, num_frames=8)
    return path


@pytest.fixture(scope="module")
def records(folder):
    from sam2vt.core.data.formats import load_records

    return load_records("video", str(folder))


def draw(records, key=KEYS[0], **settings) -> dict[str, Any]:
    return draw_clip(records, key, replace(SPEC, augment=AugmentConfig(**settings)))


def test_every_setting_is_in_the_tables():
    names = {field.name for field in fields(AugmentConfig)}
    assert names == EVERYTHING.keys() == {name for _, name, _ in EFFECTS}


@pytest.mark.parametrize(("beside", "name", "value"), EFFECTS, ids=[name for _, name, _ in EFFECTS])
def test_every_setting_has_an_effect(records, beside, name, value):
    changed = 0
    for key in KEYS[:3]:
        before, after = draw(records, key, **beside), draw(records, key, **beside, **{name: value})
        changed += not np.array_equal(before["images"], after["images"])
        assert before["frame_indices"] == after["frame_indices"]
        if name.startswith(("frame_", "blur", "noise", "jpeg")) or name in (
            "brightness",
            "contrast",
            "saturation",
            "hue",
            "grayscale_probability",
        ):
            assert np.array_equal(before["masks"], after["masks"])
    assert changed


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "grayscale_probability"])
def test_colours_change_alike_over_a_clip_and_frames_by_themselves(records, name):
    still = replace(records[0], frame_range=(0, 1))  # its clips repeat a frame
    value = 1.0 if name.endswith("probability") else 0.4
    alike = draw([still], **{name: value})["images"]
    assert all(np.array_equal(frame, alike[0]) for frame in alike)
    if name in ("brightness", "contrast", "saturation"):
        apart = draw([still], **{f"frame_{name}": value})["images"]
        assert not np.array_equal(apart[0], apart[1])


def test_without_augmentation_clips_are_as_they_were_and_torch_is_not_loaded(folder):
    code = (
        "import sys\n"
        "from sam2vt.core.data.formats import load_records\n"
        "from sam2vt.core.data.clips.drawing import draw_clip\n"
        "from sam2vt.core.data.clips.spec import ClipSpec\n"
        "from sam2vt.core.data.clips.prompts import PromptGenerator\n"
        "from sam2vt.core.types import SampleKey\n"
        f"records = load_records('video', {str(folder)!r})\n"
        "draw_clip(records, SampleKey(0, 0), ClipSpec((64, 64), 3, PromptGenerator(['mask'])))\n"
        "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_but_frames_masks_and_prompts_follows_from_augmentation(records):
    for key in KEYS:
        plain, changed = draw(records, key), draw(records, key, brightness=0.3)
        for name in plain.keys() - {"images"}:
            assert digest(plain[name]) == digest(changed[name]), name


def test_prompts_lie_on_the_moved_objects(records):
    for key in KEYS:
        clip = draw(records, key, **EVERYTHING)
        for prompt in clip["prompts"]:
            mask = clip["masks"][prompt["frame_index"], prompt["object_index"]]
            assert mask.any()
            if prompt["type"] == "mask":
                assert np.array_equal(prompt["mask"], mask)
            elif prompt["type"] == "point":
                x, y = prompt["point_coords"][prompt["point_labels"] == 1].astype(int).T
                assert mask[y, x].all()
        assert clip["num_objects"] == len(clip["object_ids"]) == clip["masks"].shape[1] <= 2


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_draws_the_same_bytes(folder, threads):
    here = digests(str(folder), EVERYTHING)
    assert len(set(here)) == len(KEYS)
    code = (
        "import importlib.util, json, sys, torch\n"
        "torch.set_num_threads(int(sys.argv[1])); torch.manual_seed(12345)\n"
        "spec = importlib.util.spec_from_file_location('augmented', sys.argv[2])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(json.dumps(module.digests(sys.argv[3], json.loads(sys.argv[4]))))\n"
        "assert torch.get_num_threads() == int(sys.argv[1])"
    )
    arguments = [str(threads), __file__, str(folder), json.dumps(EVERYTHING)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == here


def test_no_global_generator_moves(records):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads()
    first = digest(draw(records, **EVERYTHING))
    torch.manual_seed(7)
    np.random.seed(7)
    moved = torch.get_rng_state()
    assert digest(draw(records, **EVERYTHING)) == first
    assert torch.equal(torch.get_rng_state(), moved)
    torch.set_rng_state(states[0])
    draw(records, KEYS[1], **EVERYTHING)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.get_num_threads() == threads


def test_loaders_with_any_number_of_workers_give_the_same_batches(folder):
    def batches(num_workers: int) -> list[str]:
        loader = create_dataloader(
            "video",
            str(folder),
            None,
            batch_size=2,
            num_workers=num_workers,
            image_size=(64, 64),
            video_clip_length=3,
            clips_per_video=2,
            max_objects=2,
            seed=4,
            augment=AugmentConfig(**EVERYTHING),
        )
        return [digest(batch) for batch in loader]

    alone = batches(0)
    assert len(set(alone)) == 3
    assert batches(1) == alone
    assert batches(2) == alone


def test_stills_are_augmented_too(records):
    first = records[0]
    still = replace(
        first,
        num_frames=1,
        frame_paths=first.frame_paths[:1],
        annotations={0: first.annotations[0]},
        is_still=True,
    )
    plain, changed = draw([still]), draw([still], degrees=20.0)
    assert not np.array_equal(plain["images"], changed["images"])
    assert plain["frame_indices"] == changed["frame_indices"] == [0, 0, 0]
    assert changed["valid_masks"].all()


def test_padding_stays_padding(records):
    short = replace(records[1], frame_range=(0, 2))
    clip = draw([short], **EVERYTHING | {"mosaic_probability": 0.0})
    assert clip["valid_masks"].tolist() == [[True] * clip["num_objects"]] * 2 + [
        [False] * clip["num_objects"]
    ]


def test_a_broken_other_video_is_told_with_the_clip_it_was_for(records, tmp_path):
    broken = replace(records[0], video_id="gone", frame_paths=("none.png",) * 8, video_path=None)
    for settings in ({"mosaic_probability": 1.0}, {"paste_probability": 1.0}):
        with pytest.raises(DataError, match=rf"none.png.*a clip of video {records[1].video_id} by mosaic"):
            draw([records[1], broken], **settings)
    clip = make_clip(
        [records[1], broken], KEYS[0], replace(SPEC, augment=AugmentConfig(paste_probability=1.0)), True
    )
    assert "none.png" in clip["quarantined"]["error"]


@pytest.mark.parametrize("preset", ["none", "sam2", "strong", "heavy"])
def test_presets_draw(records, preset, tmp_path):
    composed = compose_config([f"dataset/augment={preset}", f"dataset.data_path='{tmp_path}'"])
    settings = load_config(composed).dataset.augment
    assert (settings == AugmentConfig()) == (preset == "none")
    clips = [draw_clip(records, key, replace(SPEC, augment=settings)) for key in KEYS[:3]]
    assert all(clip["masks"].any(axis=(0, 2, 3)).all() for clip in clips)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mosaic_probability", 1.5),
        ("paste_probability", -0.1),
        ("degrees", -1.0),
        ("degrees", 181.0),
        ("translate", 1.1),
        ("scale", (2.0, 1.0)),
        ("scale", (0.0, 1.0)),
        ("shear", 90.0),
        ("crop_area", (0.5, 1.5)),
        ("crop_ratio", (0.0, 1.0)),
        ("scale_jitter", (0.01, 1.0)),
        ("brightness", float("nan")),
        ("hue", 0.6),
        ("frame_saturation", 2.0),
        ("blur_sigma", (0.0, 1.0)),
        ("noise_std", (0.0, 2.0)),
        ("jpeg_quality", (0, 50)),
        ("jpeg_quality", (50, 101)),
    ],
)
def test_values_that_cannot_be_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"augment\.{name}=.*must be"):
        replace(SPEC, augment=AugmentConfig(**{name: value}))


def test_ranges_have_two_ends():
    with pytest.raises(ConfigError, match=r"crop_area=\[0.5\]: must be \(least, most\)"):
        AugmentConfig(crop_area=(0.5,))
