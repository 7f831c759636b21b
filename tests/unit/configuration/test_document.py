"""docs/settings.md and the comments in configs/ say what the settings say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2vt.config import Config, OptimizerConfig
from sam2vt.configuration.document import SECTIONS, settings_page, with_comments, with_missing
from sam2vt.configuration.names import setting_names
from sam2vt.configuration.reading import configs_dir
from sam2vt.settings import settings_of, types_of

REPO = Path(__file__).resolve().parents[3]
STALE = "is stale; run make settings"


def test_the_page_is_up_to_date() -> None:
    assert (REPO / "docs" / "settings.md").read_text() == settings_page(), f"docs/settings.md {STALE}"


@pytest.mark.parametrize("name", SECTIONS)
def test_the_comments_are_up_to_date(name: str) -> None:
    section, file = SECTIONS[name]
    text = (configs_dir() / file).read_text()
    assert text == with_comments(text, section), f"{file} {STALE}"
    commented = [line.split(":")[0] for line in text.splitlines() if "  # " in line]
    assert set(settings_of(section)) <= set(commented)


def test_a_setting_that_a_file_lacks_gets_its_line() -> None:
    text = "# Head\ntype: adamw\nlr: 1.0e-3\nlayer_decay: 1\n"
    assert with_missing(text, OptimizerConfig) == (
        "# Head\ntype: adamw\nlr: 1.0e-3\nweight_decay: 0.1\nbetas: [0.9, 0.999]\neps: 1e-08\n"
        "encoder_lr: null\nlayer_decay: 1\n"
    )
    for section, file in SECTIONS.values():
        assert with_missing(whole := (configs_dir() / file).read_text(), section) == whole


def test_every_section_is_on_the_page() -> None:
    # Validation is never augmented, so its augment is the training set's page.
    sections = {name.rpartition(".")[0] for name in setting_names()} - {"valdataset.augment"}
    assert set(SECTIONS) == sections
    assert all(types_of(Config)[name] is SECTIONS[name][0] for name in SECTIONS if name in types_of(Config))


def test_comments_are_replaced_and_everything_else_stays() -> None:
    text = "# Head: with a colon\ndefaults: [a, _self_]\n\ntype: adamw\nlr: 1.0e-3 # old\nother: 1 # kept\n"
    assert with_comments(text, OptimizerConfig) == (
        "# Head: with a colon\ndefaults: [a, _self_]\n\ntype: adamw  # The optimizer (adamw, adam, sgd)\n"
        "lr: 1.0e-3   # Learning rate\nother: 1 # kept\n"
    )
