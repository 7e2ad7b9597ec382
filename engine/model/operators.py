"""Operators: which form of attention, norms and rotation a model trains with. All compute the same numbers but for the
order of their sums; which one is fast depends on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model import ModelConfig
from engine.model.attention import attend
from engine.model.blocks import Attention, RMSNorm

BLOCKS = (64, 128, 256)   # queries at a time
SHORT, LONG = 64, 1024    # tokens: below, attention is no cost; above, the weights that it would keep are
WORTH_IT = 1.05           # how much faster blocks must be to be taken
TRIES = 3                 # of each candidate; the best counts
HEADS = 2                 # key-value heads of a try, with their queries: a few milliseconds


@dataclass(frozen=True)
class Operators:
    """What a model starts with is torch's own and autograd's."""

    queries_at_once: int = 0  # of attention by blocks; 0 is torch's kernel
    fused: bool = False       # norms and rotation with their gradients written out


def use(model: nn.Module, operators: Operators) -> None:
    """Let the model's blocks compute that way from now on."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.queries_at_once, module.fused = operators.queries_at_once, operators.fused
        elif isinstance(module, RMSNorm):
            module.fused = operators.fused


def choose_attention(config: ModelConfig, device: str, precision: str) -> tuple[int, str]:
    """(`queries_at_once`, why): what is faster here for rows of the whole context, measured for about 50 ms.

    On one thread, as all probes: on a busy machine several wait for the one that was put aside.
    """
    length, own = config.context_length, "torch's attention kernel"
    if device != "cpu":
        return 0, f"{own} is written for GPUs"
    if not SHORT < length <= LONG:
        return 0, (f"{own}: a context of {length} tokens is " +
                   ("too short to matter" if length <= SHORT else "too long to keep the attention weights of"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        took = _times(config, torch.bfloat16 if precision == "bf16" else torch.float32)
    finally:
        torch.set_num_threads(threads)
    best = min(took, key=lambda block: took[block])
    chosen = best if took[best] * WORTH_IT < took[0] else 0
    told = ", ".join(f"{f'by blocks of {block} queries' if block else own} {seconds * 1e3:.3g}"
                     for block, seconds in took.items())
    return chosen, f"{HEADS} heads of {length} tokens take, in ms: {told}"


def choose_fused(device: str) -> tuple[bool, str]:
    """Whether norms and rotation should be the fused ones, and why."""
    if device != "cpu":
        return False, "a GPU has kernels of its own"
    return True, "on processors norms were measured at 1.8 to 2.5 times autograd's speed and rotation at 1.3 to 1.7"


def _times(config: ModelConfig, dtype: torch.dtype) -> dict[int, float]:
    """Seconds forward and back of each candidate, taken in turns; 0 is torch's kernel."""
    share = config.num_heads // config.num_kv_heads
    dice = torch.Generator().manual_seed(0)

    def heads(number: int) -> Tensor:
        made = torch.randn(1, number, config.context_length, config.head_size, generator=dice)
        return made.to(dtype).requires_grad_()

    query, key, value = heads(HEADS * share), heads(HEADS), heads(HEADS)
    gradient = torch.ones_like(query)
    candidates: dict[int, Callable[[], Tensor]] = {
        0: lambda: F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=config.dropout,
                                                  enable_gqa=share > 1)}
    for block in BLOCKS:
        if block <= config.context_length:
            candidates[block] = lambda block=block: attend(query, key, value, block, dropout=config.dropout)
    took = dict.fromkeys(candidates, float("inf"))
    with torch.random.fork_rng(devices=[]):  # dropout draws
        for attempt in range(TRIES + 1):
            for block, make in candidates.items():
                begun = time.process_time()  # not the wall: others may be at work
                torch.autograd.grad(make(), (query, key, value), gradient)
                if attempt:  # the first warms up
                    took[block] = min(took[block], time.process_time() - begun)
    return took
