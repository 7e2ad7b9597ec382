"""Causal attention by blocks of queries, for processors: plain matrix products, and no product with what is not seen.

For one head with queries Q, keys K and values V of T tokens, each of s numbers (Vaswani et al. 2017):

    P = softmax(Q K^T / sqrt(s), where the key is not after the query)        O = P V

and with g the gradient of O, row by row:

    dV = P^T g        dP = g V^T        dS = P * (dP - sum(P * dP)) / sqrt(s)        dQ = dS K        dK = dS^T Q

Queries a .. b see no key from b on, so a block of queries multiplies with the keys before b alone: with n blocks
(n + 1) / 2n of the arithmetic of the whole. P is kept for the backward pass, which FlashAttention (Dao et al. 2022)
makes again to save memory: on a processor that cost more than it saved, at 256 to 1,024 tokens.
Which is faster, this or torch's kernel, differs between processors by factors either way: `operators.choose` looks.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def attend(query: Tensor, key: Tensor, value: Tensor, block: int, mask: Tensor | None = None,
           dropout: float = 0.0) -> Tensor:
    """O above, (B, H, T, s), of `query` (B, H, T, s) and `key`, `value` (B, K, T, s), whose heads H / K queries share.

    `mask` (B, 1, T, T): True where a query sees a key besides; all rows see something, and nothing after it.
    `dropout`: the share of P that is left out (Srivastava et al. 2014). `block` queries are taken at a time.
    """
    mixed: Tensor = InBlocks.apply(query, key, value, block, mask, dropout)
    return mixed


class InBlocks(torch.autograd.Function):
    """The mathematics above. Queries that share a key-value head stand below one another, G to a head, so that keys
    and values are not repeated."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, block: int, mask: Tensor | None,
                dropout: float) -> Tensor:
        (batch, heads, length, size), groups = query.shape, key.shape[1]
        rows, share = batch * groups, heads // groups
        scaled = (query * (1 / math.sqrt(size))).reshape(rows, share, length, size)              # (BK, G, T, s)
        key, value = key.reshape(rows, length, size), value.reshape(rows, length, size)          # (BK, T, s)
        future = torch.full((block, block), -math.inf, dtype=query.dtype, device=query.device).triu_(1)
        kept: list[Tensor] = []
        mixed: list[Tensor] = []                                                                 # (BK, G, b, s) each
        for begin in range(0, length, block):
            end = min(length, begin + block)
            asks = scaled[:, :, begin:end].reshape(rows, -1, size)                               # (BK, Gb, s)
            scores = torch.bmm(asks, key[:, :end].transpose(1, 2))                               # (BK, Gb, e)
            each = scores.view(rows, share, end - begin, end)
            each[..., begin:].add_(future[:end - begin, :end - begin])
            if mask is not None:
                hidden = ~mask[:, :, None, begin:end, :end]                                      # (B, 1, 1, b, e)
                each.view(batch, groups, share, end - begin, end).masked_fill_(hidden, -math.inf)
            weights = torch.softmax(scores, dim=-1)
            kept.append(weights)
            if dropout:
                stays = torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout)
                kept.append(stays)
                weights = weights * stays
            mixed.append(torch.bmm(weights, value[:, :end]).view(rows, share, end - begin, size))
        ctx.save_for_backward(scaled, key, value, *kept)
        ctx.block, ctx.dropout, ctx.shape = block, dropout, query.shape
        return _joined(mixed).view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled, key, value, *kept = ctx.saved_tensors
        rows, share, length, size = scaled.shape
        gradient = gradient.reshape(scaled.shape)                                                # (BK, G, T, s)
        each = 2 if ctx.dropout else 1      # tensors that were kept of a block
        d_query: list[Tensor] = []
        # The last block first: it sees every key, so that its products are where the others add theirs.
        for number in reversed(range(len(kept) // each)):
            begin, weights = number * ctx.block, kept[number * each]
            end = min(length, begin + ctx.block)
            told = gradient[:, :, begin:end].reshape(rows, -1, size)                             # (BK, Gb, s)
            asks = scaled[:, :, begin:end].reshape(rows, -1, size)
            d_weights = torch.bmm(told, value[:, :end].transpose(1, 2))                          # (BK, Gb, e)
            used = weights
            if ctx.dropout:
                stays = kept[number * each + 1]
                used, d_weights = weights * stays, d_weights.mul_(stays)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_query.append(torch.bmm(d_scores, key[:, :end]).view(rows, share, end - begin, size))
            if end == length:
                d_value, d_key = torch.bmm(used.transpose(1, 2), told), torch.bmm(d_scores.transpose(1, 2), asks)
            else:
                d_value[:, :end].baddbmm_(used.transpose(1, 2), told)
                d_key[:, :end].baddbmm_(d_scores.transpose(1, 2), asks)
        shared = (ctx.shape[0], -1, length, size)
        whole = _joined(d_query[::-1]).mul_(1 / math.sqrt(size)).view(ctx.shape)
        return whole, d_key.view(shared), d_value.view(shared), None, None, None


def _joined(blocks: list[Tensor]) -> Tensor:
    """Blocks of queries (BK, G, b, s) behind one another; a single one is not copied."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)
