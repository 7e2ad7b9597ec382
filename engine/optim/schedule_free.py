"""Schedule-Free AdamW."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.config import setting
from engine.optim import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.add("schedule_free")
class ScheduleFree(Optimizer):
    """AdamW whose weights are averaged as it goes, in place of a falling learning rate (Defazio et al. 2024): good at
    every step, so a run can end at any. Evaluated, sampled and exported are the averages. Wants warmup, then the
    schedule constant."""

    lr: float = setting(2.5e-3, "Learning rate after warmup", gt=0, le=10)
    weight_decay: float = setting(0.1, "Pull of the weight matrices towards zero", ge=0, le=1)
    beta1: float = setting(0.9, "Share of the average where the gradient is taken", gt=0, lt=1)
    beta2: float = setting(0.95, "Memory of the gradient's size", ge=0, lt=1, advanced=True)
    eps: float = setting(1e-8, "Small number that keeps the update from dividing by zero", gt=0, le=1, advanced=True)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        from engine.optim.groups import groups
        from engine.optim.updates import ScheduleFreeAdamW

        optimizer = ScheduleFreeAdamW(groups(model, self), lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps)
        optimizer.train()
        return optimizer

    def state_numbers(self, name: str, shape: tuple[int, ...]) -> int:
        return 2 * math.prod(shape)
