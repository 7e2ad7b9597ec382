"""Adafactor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.config import setting
from engine.optim import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.add("adafactor")
class Adafactor(Optimizer):
    """Adam without momentum, that keeps of each matrix's squared gradients the row and column means alone
    (Shazeer & Stern 2018): next to no state. The learning rate is relative to the size of the weights, and
    never above 1/sqrt(step)."""

    lr: float = setting(1e-2, "Peak learning rate, relative to the root mean square of a parameter", gt=0, le=10)
    beta2_decay: float = setting(-0.8, "How the memory of the gradient's size grows: 1 - step to this power", lt=0,
                                 ge=-2, advanced=True)
    clip: float = setting(1.0, "Root mean square that an update is shortened to", gt=0, le=100, advanced=True)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        import torch

        from engine.optim.groups import groups

        # torch squares the first eps, which the paper gives as 1e-30.
        return torch.optim.Adafactor(groups(model, self), lr=self.lr, beta2_decay=self.beta2_decay, d=self.clip,
                                     eps=(1e-15, 1e-3))

    def state_numbers(self, name: str, shape: tuple[int, ...]) -> int:
        return sum(shape) if len(shape) == 2 else math.prod(shape)
