"""Lion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.config import setting
from engine.optim import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.add("lion")
class Lion(Optimizer):
    """The sign of a momentum, so that every number moves by the learning rate (Chen et al. 2023). Half of AdamW's
    state; wants a learning rate three to ten times smaller than AdamW's, and as much more weight decay."""

    lr: float = setting(2e-4, "Peak learning rate, reached after warmup", gt=0, le=10)
    weight_decay: float = setting(0.5, "Pull of the weight matrices towards zero", ge=0, le=1)
    beta1: float = setting(0.9, "Share of the momentum, against the new gradient, in the update", ge=0, lt=1,
                           advanced=True)
    beta2: float = setting(0.99, "Memory of the momentum", ge=0, lt=1, advanced=True)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        from engine.optim.groups import groups
        from engine.optim.updates import SignOfMomentum

        return SignOfMomentum(groups(model, self), lr=self.lr, betas=(self.beta1, self.beta2))

    def state_numbers(self, name: str, shape: tuple[int, ...]) -> int:
        return math.prod(shape)
