"""RMSNorm and rotation with their gradients written out: fewer passes over memory than autograd's, piece by piece.

A processor runs a chain of small operations at the speed of its memory, and autograd keeps what each of them took in.
`torch.compile` fuses such chains by itself, so these are for training without it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class RMSNorm(torch.autograd.Function):
    """y = w * x / r with r = sqrt(mean(x^2) + eps) over the last dimension (Zhang & Sennrich 2019).

    With u = x / r and g the gradient of y:   dw = sum(g * u)        dx = (g * w - u * mean(g * w * u)) / r
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x32 = x.float()                                                                          # (..., d)
        length = torch.linalg.vector_norm(x32, dim=-1, keepdim=True)                             # (..., 1)
        inverse = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x32 * inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        size = x.shape[-1]
        even = x.float() * inverse                                                               # u
        gradient = gradient.float()
        product = gradient * even                                                                # g * u
        d_weight = product.reshape(-1, size).sum(0)
        share = torch.mv(product.reshape(-1, size), weight.float()).view(inverse.shape).div_(size)
        d_x = torch.mul(gradient, weight, out=product).addcmul_(even, share, value=-1).mul_(inverse)
        return d_x.to(x.dtype), d_weight.to(weight.dtype), None, None


class Rotate(torch.autograd.Function):
    """(a, b) -> (a cos - b sin, b cos + a sin) for the halves a, b of each head (Su et al. 2021).

    A rotation's gradient is turned back by the same angle.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _turned(gradient, *ctx.saved_tensors, -1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """`x` (B, H, T, s) turned by sign * the angle, of whose cosine and sine are given (B or 1, 1, T, s/2)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    turned = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    torch.mul(a, cos, out=turned[..., :half]).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=turned[..., half:]).addcmul_(a, sin, value=sign)
    return turned.to(x.dtype)
