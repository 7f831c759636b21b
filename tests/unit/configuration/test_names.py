from __future__ import annotations

import pytest

from sam2vt.configuration.names import nearest, setting_names, type_of, unknown_name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("optimizer.lrr", "optimizer.lr"),
        ("optimizr.lr", "optimizer.lr"),
        ("optimizr.lrr", "optimizer.lr"),
        ("optimizr", "optimizer"),
        ("lr", "optimizer.lr"),
        ("lrr", "optimizer.lr"),
        ("model.lr", "optimizer.lr"),
        ("model.batch_size", "dataset.batch_size"),
        ("valdataset.degrees", "valdataset.augment.degrees"),
        ("dataset.augment.degree", "dataset.augment.degrees"),
        ("video_clip_lenght", "dataset.video_clip_length"),
        ("seeed", "seed"),
        ("sweep.num_trial", "sweep.num_trials"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("valdatasset.data_path", "valdataset.data_path"),
        ("valdatasets.davis.data_pth", "valdatasets.davis.data_path"),
        ("schedular.type", "scheduler.type"),
        ("qqq", None),
    ],
)
def test_the_setting_that_a_misspelt_name_means(name: str, meant: str | None) -> None:
    fault = unknown_name(name)
    assert fault is not None
    assert fault.startswith(f"{name}: unknown key")
    assert (f"did you mean {meant}?" in fault) == (meant is not None)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "optimizer",
            "seed",
            "ray.worker_resources.slot",
            "model.adapter_settings.rank",
            "sweep.space.loss.lr",
            "valdatasets.davis.data_path",
        ),
        "sweep.space.loss.lr.choice",
    ],
)
def test_known_names(name: str) -> None:
    assert unknown_name(name) is None


def test_every_setting_has_a_type_and_is_nearest_to_itself() -> None:
    for name in setting_names():
        assert type_of(name) is not None
        assert unknown_name(name) is None
    assert nearest("model.num_maskmem.x") == "model.num_maskmem"


@pytest.mark.parametrize("name", ["valdatasets.a/b.data_path", "ray.worker_resources.my gpu"])
def test_a_key_that_no_override_can_have(name: str) -> None:
    assert str(unknown_name(name)).endswith("cannot be part of a name; letters, digits, _ and - can")


def test_what_is_allowed_in_its_place_is_listed() -> None:
    assert "allowed here: enabled, type, T_max" in str(unknown_name("scheduler.gama"))
