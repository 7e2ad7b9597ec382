"""Decoder: embedding, a stack of blocks, a last norm, a head. With its config it is exactly Llama, Qwen3 or GPT-2."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import UserError
from engine.model import ModelConfig
from engine.model.blocks import Block, Cache, angles, norm
from engine.model.rope import amplitude, stretch

__all__ = ["Cache", "Decoder"]


class Decoder(nn.Module):
    """Token ids in, logits of each next token out.

    Weights start as in GPT-2 (Radford et al. 2019): normal(0, 0.02), biases 0, norms 1, and the projections
    that write into the stream scaled by 1/sqrt(2 * num_layers), so that the stream's size does not grow with depth.
    A tied head has no weight of its own: `head_weight` is the embedding's.
    Dropout (after the embedding, on attention weights, on what a block adds) acts in training mode alone.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        found = stretch(config)
        self.stretch = None if found is None else found.tolist()    # numbers: a buffer would be saved, or left on meta
        self.amplitude = amplitude(config)
        learned = config.position == "learned"
        self.positions = nn.Embedding(config.context_length, config.hidden_size) if learned else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = norm(config, config.hidden_size)
        self.head = None if config.tied_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Block):
            for writes in (module.attention.output, module.mlp.down):
                nn.init.normal_(writes.weight, std=0.02 / math.sqrt(2 * self.config.num_layers))

    @property
    def head_weight(self) -> Tensor:
        """The matrix (V, d) that turns hidden states into logits, for losses that apply it piecewise."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, input_ids: Tensor, *, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
                cache: Cache | None = None, documents: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token after each of `input_ids` (B, T).

        `attention_mask` (B, P + T): 1 for tokens, 0 for padding on either side, the P cached tokens included.
        `position_ids` (B, T): counted from the mask when absent, so padding shifts nothing.
        `cache`: its P tokens come first, and it takes the T new ones in. Logits at padding mean nothing.
        `documents` (B, T), without the others: numbers that change from one packed document to the next. Attention
        stays among equal ones and positions begin anew, so the logits are those of each document alone.
        Raises UserError when P + T is more than the context.
        """
        hidden = self.hidden(input_ids, attention_mask=attention_mask, position_ids=position_ids, cache=cache,
                             documents=documents)
        return F.linear(hidden, self.head_weight)                                                # (B, T, V)

    def hidden(self, input_ids: Tensor, *, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
               cache: Cache | None = None, documents: Tensor | None = None) -> Tensor:
        """The last hidden states (B, T, d), normalised, which the head reads. Arguments as in `forward`."""
        past, new = cache.length if cache is not None else 0, input_ids.shape[1]
        if past + new > self.config.context_length:
            raise UserError(f"{past + new} tokens are more than the model's context_length of "
                            f"{self.config.context_length}; give it a shorter text.")
        if documents is not None:
            position_ids = _restarting(documents)                                                # (B, T)
        elif position_ids is None:
            position_ids = _positions(attention_mask, past, new, input_ids.device)               # (B or 1, T)
        x = self.embedding(input_ids)                                                            # (B, T, d)
        turn = None
        if self.positions is not None:
            x = x + self.positions(position_ids)
        else:
            factors = None if self.stretch is None else torch.tensor(self.stretch, device=x.device)
            turn = angles(position_ids, self.config.head_size, self.config.rope_theta, factors, self.amplitude)
        mask = _mask(attention_mask, past, new, input_ids.device) if documents is None else _within(documents)
        x = self.dropout(x)
        for number, block in enumerate(self.blocks):
            x = block(x, turn, mask, cache, number)
        return self.norm(x)


def _positions(attention_mask: Tensor | None, past: int, new: int, device: torch.device) -> Tensor:
    """The place of each new token among the tokens of its row, padding not counted: (B, T), or (1, T) for all."""
    if attention_mask is None:
        return torch.arange(past, past + new, device=device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:]


def _mask(attention_mask: Tensor | None, past: int, new: int, device: torch.device) -> Tensor | None:
    """True where a query sees a key: (T, P + T), or (B, 1, T, P + T) with padding; None where plain causal will do."""
    if attention_mask is None and (past == 0 or new == 1):
        return None
    query = torch.arange(past, past + new, device=device)[:, None]                               # (T, 1)
    key = torch.arange(past + new, device=device)                                                # (P + T)
    if attention_mask is None:
        return key <= query
    # Padding sees itself: a row of softmax over nothing would be NaN.
    return (key <= query) & attention_mask.bool()[:, None, None, :] | (key == query)


def _restarting(documents: Tensor) -> Tensor:
    """The place of each token in its document, (B, T)."""
    place = torch.arange(documents.shape[1], device=documents.device)
    begins = documents != documents.roll(1, dims=1)
    begins[:, 0] = True
    return place - torch.where(begins, place, 0).cummax(dim=1).values


def _within(documents: Tensor) -> Tensor:
    """True where a query sees a key: before it or itself, and of the same document, (B, 1, T, T)."""
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return causal & (documents[:, None, :, None] == documents[:, None, None, :])
