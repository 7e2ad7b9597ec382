"""Other people's models of the same size as ours, each as a function from a batch to its loss.

None of their code is here: transformers is installed with the tests, nanoGPT and litgpt are read from a checkout.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model import ModelConfig

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, inputs (B, T), targets (B, T) -> a scalar


def of_logits(pick: Callable[[object], Tensor]) -> Loss:
    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(pick(model(inputs)).float().flatten(0, 1), targets.flatten())
    return loss


def transformers_llama(shape: ModelConfig) -> tuple[nn.Module, Loss]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.hidden_size, intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers, num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads, max_position_embeddings=shape.context_length,
        tie_word_embeddings=shape.tied_embeddings, use_cache=False, attn_implementation="sdpa")
    return LlamaForCausalLM(config), of_logits(lambda made: made.logits)


def transformers_gpt2(shape: ModelConfig) -> tuple[nn.Module, Loss]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocab_size, n_embd=shape.hidden_size, n_layer=shape.num_layers, n_head=shape.num_heads,
        n_positions=shape.context_length, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        attn_implementation="sdpa")
    return GPT2LMHeadModel(config), of_logits(lambda made: made.logits)


def nanogpt(folder: Path) -> Callable[[ModelConfig], tuple[nn.Module, Loss]]:
    def build(shape: ModelConfig) -> tuple[nn.Module, Loss]:
        sys.path.insert(0, str(folder))
        try:
            from model import GPT, GPTConfig
        finally:
            sys.path.remove(str(folder))
        made = GPT(GPTConfig(block_size=shape.context_length, vocab_size=shape.vocab_size, n_layer=shape.num_layers,
                             n_head=shape.num_heads, n_embd=shape.hidden_size, dropout=0.0, bias=False))
        return made, lambda model, inputs, targets: model(inputs, targets)[1]
    return build


def litgpt(folder: Path) -> Callable[[ModelConfig], tuple[nn.Module, Loss]]:
    def build(shape: ModelConfig) -> tuple[nn.Module, Loss]:
        # Its package would import what serves and downloads models; the model alone needs none of that.
        package = sys.modules.setdefault("litgpt", types.ModuleType("litgpt"))
        package.__path__ = [str(folder / "litgpt")]
        from litgpt.config import Config
        from litgpt.model import GPT

        made = GPT(Config(
            block_size=shape.context_length, vocab_size=shape.vocab_size, padded_vocab_size=shape.vocab_size,
            n_layer=shape.num_layers, n_head=shape.num_heads, n_embd=shape.hidden_size, rotary_percentage=1.0,
            parallel_residual=False, bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
            intermediate_size=shape.intermediate_size))
        return made, of_logits(lambda made: made)
    return build


def products(shape: ModelConfig, rows: int, dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products of one step and nothing else: forward, and twice over for the gradients."""
    width, inside, tokens = shape.hidden_size, shape.intermediate_size, rows * shape.context_length
    keys, queries = shape.num_kv_heads * shape.head_size, shape.num_heads * shape.head_size
    layers = [(width, queries), (width, keys), (width, keys), (queries, width), (width, inside), (width, inside),
              (inside, width)] * shape.num_layers + [(width, shape.vocab_size)]
    sizes = set(layers)
    drawn = {size: torch.randn(tokens, size, dtype=dtype) for pair in sizes for size in pair}
    weights = {pair: torch.randn(*pair, dtype=dtype) for pair in sizes}
    heads = torch.randn(rows * shape.num_heads, shape.context_length, shape.head_size, dtype=dtype)
    scores = torch.randn(rows * shape.num_heads, shape.context_length, shape.context_length, dtype=dtype)

    def step() -> None:
        for read, written in layers:
            weight = weights[read, written]
            drawn[read] @ weight
            drawn[written] @ weight.T
            drawn[read].T @ drawn[written]
        for _ in range(shape.num_layers):
            for _ in range(3):
                torch.bmm(heads, heads.transpose(1, 2))
                torch.bmm(scores, heads)
    return step
