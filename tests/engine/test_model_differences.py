"""An architecture that is not computed here is refused with what it does otherwise, as its own class states it."""

from __future__ import annotations

import pytest

from engine.config import UserError
from engine.model.differences import how_it_differs
from engine.model.published import config_from

transformers = pytest.importorskip("transformers")

WHAT = {
    "Gemma": "norms whose weights are added to one", "Gemma2": "capped attention scores", "Gemma3": "images",
    "Gemma3Text": "a window that slides", "Phi": "attention and MLP side by side", "Phi3": "in one matrix",
    "Olmo": "norms without weights", "Olmo2": "norms after attention and MLP", "Olmo3": "a window that slides",
    "OPT": "the activation relu", "Bloom": "ALiBi in place of RoPE", "StableLm": "RoPE on a part of each head",
    "GPTNeo": "a window that slides", "GPTNeoX": "attention and MLP side by side",
    "GPTJ": "RoPE on a part of each head", "Bert": "attention to what follows",
    "Starcoder2": "the activation gelu_pytorch_tanh",
    "Ministral": "a window that slides", "Glm": "RoPE on a part of each head", "Glm4": "norms after attention and MLP",
    "Nemotron": "the activation relu2", "Falcon": "attention and MLP side by side", "Mpt": "ALiBi in place of RoPE",
    "Cohere": "scaled logits", "Granite": "attention scores of another scale", "Mixtral": "a mixture of experts",
    "Mamba": "state-space blocks", "T5": "an encoder", "DeepseekV3": "latent attention",
    "Qwen3Moe": "a mixture of experts", "SmolLM3": "layers without positions", "Exaone4": "a window that slides",
    "RecurrentGemma": "recurrent blocks",
}


@pytest.mark.parametrize("name", WHAT)
def test_it_is_refused_with_what_differs(name, tmp_path):
    config = getattr(transformers, f"{name}Config")()
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"a model of type '{config.model_type}', which has .*; known are") as caught:
        config_from(tmp_path)
    assert WHAT[name] in caught.value.sentence
    assert caught.value.sentence.count("which has") == 1


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3", "GPT2"])
def test_what_is_computed_here_differs_in_nothing(name):
    assert how_it_differs(getattr(transformers, f"{name}Config")().to_dict()) == ""


@pytest.mark.parametrize(("values", "told"), [
    ({"rotary_pct": 0.25}, "RoPE on a part of each head"),
    ({"rotary_pct": 1.0, "residual_multiplier": 1, "logit_scale": None}, ""),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "RoPE on a part of each head"),
    ({"text_config": {"final_logit_softcapping": 30.0}}, "capped logits"),
    ({"sliding_window": 4096, "use_sliding_window": False}, ""),
    ({"sliding_window": 4096}, "a window that slides"),
    ({"layer_types": ["linear_attention", "full_attention"]}, "linear attention"),
    ({"layer_types": "nonsense", "rope_parameters": 3, "hidden_act": ["silu"], "text_config": []}, ""),
])
def test_words_count_by_what_they_say(values, told):
    assert how_it_differs(values) == (f", which has {told}" if told else "")
