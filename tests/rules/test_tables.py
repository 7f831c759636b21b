"""Tables of which two rooms hold a part have the same names: settings know neither torch nor SAM 2."""

from __future__ import annotations

from sam2vt.config import ADAPTED_PARTS, LOGGER_PACKAGES, TRACKERS, Config, ModelConfig
from sam2vt.core.evaluation.palette import LOOKS
from sam2vt.core.model.adapters import ADAPTERS, NONE
from sam2vt.core.model.execution import PARTS
from sam2vt.core.training.loggers import LOGGERS
from sam2vt.settings import choices


def test_every_adapter_says_which_parts_it_adapts() -> None:
    assert ADAPTED_PARTS.keys() == {NONE, *ADAPTERS}


def test_every_logger_says_what_it_needs() -> None:
    assert LOGGER_PACKAGES.keys() == LOGGERS.keys() >= set(TRACKERS)
    assert choices(Config, "loggers") == tuple(LOGGERS)


def test_the_parts_to_compile_are_those_of_the_network() -> None:
    assert set(choices(ModelConfig, "compile")) == PARTS.keys()


def test_every_style_has_its_look() -> None:
    assert choices(Config, "style") == tuple(LOOKS)
