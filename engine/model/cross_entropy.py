"""Cross-entropy from hidden states and the head's matrix, by pieces of the text: the logits are never held whole.

A row of logits is as long as the vocabulary: 4,096 tokens and a vocabulary of 50,000 make 0.8 GB of float32, and plain
autograd holds them about four times over (the logits, their log-softmax, and the gradient of each). Nothing but the
head stands between the hidden states and the loss, so the gradient of a piece of the text can be made while its logits
are at hand, and the logits forgotten (Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", and
Hsu et al. 2024, "Liger Kernel", do so on GPUs). For a token with hidden state h, target y and logits z = W h:

    loss = log(sum_v exp(z_v)) - z_y        dz = softmax(z) - onehot(y)        dh = W^T dz        dW = dz h^T

A matrix product more than plain autograd is not needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.model.estimate import CACHED_ROWS, logits_at_once

IGNORED = -100  # a target that does not count, as in torch


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-log p of each target, summed over those that count, in nats: a float32 scalar.

    `hidden` (..., d), `weight` (V, d), `targets` (...) int64, IGNORED where none is. Under autocast the products are
    made in its format; the softmax, the loss and the sums over pieces are float32 whatever the format.
    """
    flat, wanted = hidden.flatten(0, -2), targets.flatten()                                      # (N, d), (N)
    rows = logits_at_once(len(flat), len(weight))
    loss: Tensor = InPieces.apply(flat, weight, wanted, rows, torch.is_grad_enabled())
    return loss


class InPieces(torch.autograd.Function):
    """The mathematics above, `rows` tokens at a time. Its gradients are made on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int, trains: bool) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        wants_hidden, wants_weight = (trains and wanted for wanted in ctx.needs_input_grad[:2])
        d_hidden = torch.empty_like(hidden) if wants_hidden else None                            # (N, d)
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None       # (V, d)
        with torch.autocast(kind, enabled=False):
            within = CACHED_ROWS if kind == "cpu" else rows
            product, total = weight.to(dtype), torch.zeros((), device=hidden.device)
            for begin in range(0, len(hidden), rows):
                piece = slice(begin, begin + rows)
                some, wanted = hidden[piece].to(dtype), targets[piece, None]                     # (n, d), (n, 1)
                counts = wanted != IGNORED                                                       # (n, 1)
                place = wanted.clamp(min=0)
                d_logits = None if d_hidden is None and d_weight is None else some.new_empty(len(some), len(product))
                for first in range(0, len(some), within):
                    part = slice(first, first + within)
                    logits = (some[part] @ product.T).float()                                    # (m, V)
                    share = torch.softmax(logits, dim=-1)
                    # The largest share is exp(largest logit) / sum: a logarithm a token instead of one a logit.
                    level = logits.amax(-1, keepdim=True) - share.amax(-1, keepdim=True).log()   # log of the sum
                    total += ((level - logits.gather(1, place[part])) * counts[part]).sum()
                    if d_logits is not None:
                        minus = share.new_full((1, 1), -1.0).expand(len(share), 1)
                        d_logits[part] = share.scatter_add_(1, place[part], minus)
                if d_logits is None:
                    continue
                # What does not count is left out of the products: of fewer numbers than the logits.
                if d_hidden is not None:
                    d_hidden[piece] = (d_logits @ product).mul_(counts)
                if d_weight is not None:
                    _add_product(d_weight, d_logits.T, some * counts)
        ctx.gradients, ctx.dtype = (d_hidden, d_weight), weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss were already taken; compute the loss again")
        d_hidden, d_weight = ctx.gradients
        ctx.gradients = None
        return (None if d_hidden is None else d_hidden.mul_(gradient),
                None if d_weight is None else d_weight.mul_(gradient).to(ctx.dtype), None, None, None)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in float32 from piece to piece."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
