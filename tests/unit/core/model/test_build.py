from __future__ import annotations

import pytest

from sam2vt.errors import ConfigError

from .conftest import nano_model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directly_add_no_mem_embed": False}, "directly_add_no_mem_embed is false; must be true"),
        ({"use_mask_input_as_output_without_sam": False}, "without_sam is false; must be true"),
        ({"max_obj_ptrs_in_encoder": 1}, "max_obj_ptrs_in_encoder is 1; must be 2 or more"),
    ],
)
def test_networks_that_cannot_be_tracked_with(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        nano_model(**settings)
