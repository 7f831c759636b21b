"""The model card of an export."""

from __future__ import annotations

from dataclasses import asdict

from sam2vt.config import Config, LoraConfig
from sam2vt.core.model.hf.card import Recipe, model_card


def settings(**model) -> dict:
    config = Config()
    config.dataset.data_path = "/home/somebody/secret-project/my_videos"
    config.model.checkpoint_path = "hf://facebook/sam2.1-hiera-tiny@" + "a" * 40 + "/sam2.1_hiera_tiny.pt"
    for name, value in model.items():
        setattr(config.model, name, value)
    return asdict(config)


def test_a_card_tells_data_recipe_scores_licence_and_how_to_load_it() -> None:
    card = model_card("tuned", 512, Recipe(settings(), 1200, 0.8123))
    assert [line for line in card.splitlines() if line.startswith("## ")] == [
        "## Data",
        "## Recipe",
        "## Scores",
        "## Licence",
        "## How to load it",
    ]
    assert card.startswith("---\nlibrary_name: transformers\n")
    for words in (
        "license: apache-2.0",
        "base_model: facebook/sam2.1-hiera-tiny\n",
        "| trained on | my_videos |",
        "| steps | 1200 |",
        "J&F 81.2",
        'from_pretrained("tuned")',
        "512 x 512",
    ):
        assert words in card


def test_a_card_does_not_tell_where_files_are() -> None:
    for start in ("/home/somebody/secret-project/start.pt", "s3://secret-project/start.pt/model.safetensors"):
        card = model_card("tuned", 512, Recipe(settings(checkpoint_path=start, adapter="lora"), 3))
        assert "somebody" not in card
        assert "secret-project" not in card
        assert "| started from | start.pt |" in card
        assert "merged into the weights" in card


def test_adapters_are_told() -> None:
    card = model_card("tuned", 512, Recipe(settings(lora=LoraConfig(rank=4), trainable_modules=[]), 3))
    expected = "of rank 4 at image_encoder, memory_attention, mask_decoder, merged into the weights"
    assert f"| low-rank adapters | {expected} |" in card
    assert "trained modules" not in card


def test_unknown_starts_have_no_licence_of_ours() -> None:
    for start in (None, "start.pt", "hf://somebody/model"):
        card = model_card("tuned", 512, Recipe(settings(checkpoint_path=start)))
        assert "license:" not in card
        assert "Say here under which licence" in card


def test_weights_alone_know_nothing_of_their_training() -> None:
    card = model_card("tuned", 1024, Recipe())
    assert "Not recorded in the checkpoint" in card
    assert "Not validated here" in card
