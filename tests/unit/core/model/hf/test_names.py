"""Names of tensors, to transformers and back."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.hf.names import NAMES, from_transformers, to_transformers
from sam2vt.errors import CheckpointError

from ..conftest import nano_model

POINTS = "sam_prompt_encoder.point_embeddings"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return dict(nano_model().network.state_dict())


def test_there_and_back_is_bit_for_bit(state) -> None:
    there = to_transformers(state, "a.pt")
    back = from_transformers(there)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    # Three of four point embeddings go, a second Gaussian matrix comes.
    assert len(there) == len(state) - 3 + 1
    assert there["prompt_encoder.point_embed.weight"].shape == (4, 64)


def test_each_row_is_used_and_no_name_is_given_twice(state) -> None:
    assert len(set(NAMES.values())) == len(NAMES)
    there = to_transformers(state, "a.pt")
    assert not [name for name in there if "sam_" in name or "obj_ptr" in name or ".norm" in name]


def test_no_two_tensors_share_memory(state) -> None:
    places = [value.data_ptr() for value in to_transformers(state, "a.pt").values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("front", ["shared_image_embedding", "prompt_encoder.shared_embedding"])
def test_one_of_the_two_equal_matrices_is_enough(state, front: str) -> None:
    there = to_transformers(state, "a.pt")
    del there[f"{front}.positional_embedding"]
    assert from_transformers(there).keys() == state.keys()


def test_tensors_without_a_place_are_refused_by_name(state) -> None:
    extra = {**state, "image_encoder.trunk.blocks.0.attn.qkv.lora_a": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"a\.pt: .*no place for 1 .*: image_encoder\S+qkv\.lora_a"):
        to_transformers(extra, "a.pt")


@pytest.mark.parametrize("name", ["memory_encoder.out_proj", f"{POINTS}.3"])
def test_tensors_that_are_needed_there_are_named(state, name: str) -> None:
    less = {each: value for each, value in state.items() if not each.startswith(f"{name}.")}
    with pytest.raises(CheckpointError, match="needs tensors that this network does not have"):
        to_transformers(less, "a.pt")


def test_without_what_the_configuration_switches_off(state) -> None:
    """Networks of SAM 2.0 have no embedding for occlusion, and no projection of times."""
    less = {name: v for name, v in state.items() if not name.startswith(("no_obj_embed", "obj_ptr_tpos"))}
    assert from_transformers(to_transformers(less, "a.pt")).keys() == less.keys()


def test_unknown_names_stay_as_they_are() -> None:
    assert from_transformers({"text_model.a": torch.zeros(1)}).keys() == {"text_model.a"}
