"""Toy decoders of every family, with weights far from where training starts, so that each of them matters."""

from __future__ import annotations

import torch

from engine.model import ModelConfig
from engine.model.decoder import Decoder

VOCABULARY, CONTEXT = 97, 32

FORMS = {
    "llama": {"family": "llama"},
    "llama-untied-biased": {"family": "llama", "tied_embeddings": False, "attention_bias": True, "mlp_bias": True},
    "llama-multi-query": {"family": "llama", "num_kv_heads": 1, "rope_theta": 500_000.0, "norm_eps": 1e-6},
    "llama3": {"family": "llama", "rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 16,
               "rope_theta": 100.0},
    "llama-yarn": {"family": "llama", "rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 8,
                   "rope_theta": 100.0, "rope_high_waves": 2.0, "rope_low_waves": 0.25},
    "qwen3": {"family": "qwen3"},
    "qwen3-wide-heads": {"family": "qwen3", "head_size": 20, "tied_embeddings": False, "attention_bias": True},
    "gpt2": {"family": "gpt2"},
    "gpt2-untied": {"family": "gpt2", "tied_embeddings": False, "intermediate_size": 80},
}


def config(form: str, **changes) -> ModelConfig:
    """Two layers of width 48; a family's form by its name in FORMS."""
    return ModelConfig.model_validate({"num_layers": 2, "hidden_size": 48, "num_heads": 4, "vocab_size": VOCABULARY,
                                       "context_length": CONTEXT, **FORMS[form], **changes})


def stir(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights with a spread of 0.15, norms and biases included: nothing is zero, one or small."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = name.endswith("weight") and ("norm" in name or "ln_" in name)
            parameter.normal_(1.0 if scale else 0.0, 0.15, generator=dice)
    return module.eval()


def decoder(form: str, seed: int = 0, **changes) -> Decoder:
    return stir(Decoder(config(form, **changes)), seed)


def tokens(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
