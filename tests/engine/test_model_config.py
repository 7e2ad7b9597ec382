"""The menu of models: what a person may write, and that what is written reads back the same."""

from __future__ import annotations

import pytest

from engine.config import UserError, read
from engine.model import FAMILIES, SIZES, ModelConfig, estimate


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_every_family_is_a_valid_model_written_short(family, size):
    config = ModelConfig(family=family, size=size, vocab_size=5000)
    assert config.dump() == {"family": family, "size": size, "vocab_size": 5000}
    assert ModelConfig.model_validate(config.dump()) == config


@pytest.mark.parametrize(("size", "vocabulary", "millions"), [
    ("nano", 2048, 1.0), ("micro", 2048, 3.5), ("mini", 2048, 10.5), ("small", 2048, 24), ("base", 32_768, 101),
    ("medium", 32_768, 299), ("large", 32_768, 657), ("1b", 32_768, 1082), ("3b", 32_768, 2919), ("7b", 32_768, 6719),
])
def test_sizes_are_as_large_as_the_menu_says(size, vocabulary, millions):
    assert estimate.parameters(ModelConfig(size=size, vocab_size=vocabulary)) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("values", [
    {"family": "qwen3", "hidden_size": 130, "num_heads": 4, "head_size": 32},     # heads that don't fill the width
    {"family": "qwen3", "hidden_size": 1024, "num_heads": 16, "num_kv_heads": 8, "head_size": 128, "size": "7b"},
    {"family": "gpt2", "hidden_size": 96, "num_heads": 6, "intermediate_size": 100, "dropout": 0.1},
    {"family": "llama", "num_heads": 1, "rope_theta": 5e5, "attention_bias": True, "tied_embeddings": False},
])
def test_any_valid_shape_survives_writing_and_reading(values):
    config = ModelConfig.model_validate(values)
    assert ModelConfig.model_validate(config.dump()) == config
    assert all(getattr(config, name) == value for name, value in values.items())


@pytest.mark.parametrize(("values", "field", "sentence"), [
    ({"num_heads": 3}, "num_heads", "does not divide hidden_size 128"),
    ({"num_heads": 3, "head_size": 32}, "num_heads", "does not divide hidden_size 128"),
    ({"num_kv_heads": 3}, "num_kv_heads", "does not divide num_heads 4"),
    ({"family": "gpt2", "num_kv_heads": 2}, "num_kv_heads", "GPT-2 has as many"),
    ({"family": "gpt2", "head_size": 16}, "head_size", "choose 32"),
    ({"head_size": 33}, "head_size", "even number"),
    ({"family": "llama", "qk_norm": True}, "qk_norm", "a llama model has False"),
    ({"family": "mamba"}, "family", "must be one of"),
    ({"size": "huge"}, "size", "must be one of"),
    ({"layers": 3}, "layers", "not a setting here"),
])
def test_a_shape_that_cannot_be_is_laid_at_the_door_of_its_field(values, field, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        read(ModelConfig, values)
    assert caught.value.where == field
