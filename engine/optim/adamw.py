"""AdamW."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.config import setting
from engine.optim import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.add("adamw")
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). The safe choice."""

    weight_decay: float = setting(0.1, "Pull of the weight matrices towards zero", ge=0, le=1)
    beta1: float = setting(0.9, "Memory of the gradient's direction", ge=0, lt=1, advanced=True)
    beta2: float = setting(0.95, "Memory of the gradient's size", ge=0, lt=1, advanced=True)
    eps: float = setting(1e-8, "Small number that keeps the update from dividing by zero", gt=0, le=1, advanced=True)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        import torch

        from engine.optim.groups import groups

        return torch.optim.AdamW(groups(model, self), lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps,
                                 fused=True)

    def state_numbers(self, name: str, shape: tuple[int, ...]) -> int:
        return 2 * math.prod(shape)
