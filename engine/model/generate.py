"""Generate: text out of a decoder, token by token, through its KV cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from engine.config import UserError
from engine.model.decoder import Cache, Decoder


def generate(model: Decoder, input_ids: Tensor, max_new_tokens: int, temperature: float = 0.8, top_k: int = 0,
             top_p: float = 1.0, generator: torch.Generator | None = None, end: int | Collection[int] | None = None,
             agree: Callable[[int], int] | None = None) -> list[int]:
    """The tokens that follow `input_ids` (1, T): at most `max_new_tokens`, ending with `end`, or the first of several.

    Temperature 0 takes the likeliest token each time; top-k and top-p as in `sample`. `generator` lives on the CPU
    whatever the model's device; without one every call differs, and torch's global one is left alone, so that
    samples drawn during training don't change it. When the context is full, the last half of it is read afresh
    (positions start again from 0) and the text goes on; so is a prompt that is longer than the context. Ranks that run
    one model together `agree` on each token: given this one's, it returns the one that all take.
    """
    return list(stream(model, input_ids, max_new_tokens, temperature, top_k, top_p, generator, end, agree))


def stream(model: Decoder, input_ids: Tensor, max_new_tokens: int, temperature: float = 0.8, top_k: int = 0,
           top_p: float = 1.0, generator: torch.Generator | None = None, end: int | Collection[int] | None = None,
           agree: Callable[[int], int] | None = None) -> Iterator[int]:
    """`generate`, one token at a time."""
    ends = end if isinstance(end, Collection) else [end]
    if not input_ids.shape[1]:
        raise UserError("the prompt holds no token; write at least one word.")
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    context = model.config.context_length
    text = unread = input_ids.to(model.embedding.weight.device)                                  # (1, T)
    cache = Cache()
    for _ in range(max_new_tokens):
        if cache.length + unread.shape[1] > context:
            cache, unread = Cache(), text[:, -(context // 2):]
        token = sample(_read(model, unread, cache), temperature, top_k, top_p, generator)
        token = agree(token) if agree else token
        yield token
        if token in ends:
            return
        unread = text.new_tensor([[token]])
        text = torch.cat((text, unread), dim=1)


@torch.no_grad()
def _read(model: Decoder, input_ids: Tensor, cache: Cache) -> Tensor:
    """The logits (V) of the token after `input_ids` (1, T), dropout off; the model's mode is as before."""
    training = model.training
    model.eval()
    try:
        last = model.hidden(input_ids, cache=cache)[0, -1]                                       # (d)
        return (model.head_weight @ last).float().cpu()
    finally:
        model.train(training)


def sample(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
           generator: torch.Generator | None = None) -> int:
    """One token from `logits` (V).

    Temperature 0 takes the largest. `top_k` keeps the k largest (0: all; Fan et al. 2018), then `top_p` the fewest
    tokens that hold that share of the probability, at least one (1: all; Holtzman et al. 2020).
    """
    if temperature == 0:
        return int(logits.argmax())
    logits, tokens = torch.sort(logits.float() / temperature, descending=True, stable=True)
    kept = min(top_k, len(logits)) if top_k else len(logits)
    chances = logits[:kept].softmax(dim=-1)
    before = chances.cumsum(dim=-1) - chances
    chances = chances * (before < top_p)
    chances[0] = chances[0].clamp(min=1e-9)
    return int(tokens[torch.multinomial(chances, 1, generator=generator)])
