"""SGD, with or without momentum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.config import setting
from engine.optim import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.add("sgd")
class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013). Half of AdamW's state."""

    lr: float = setting(0.1, "Peak learning rate, reached after warmup", gt=0, le=10)
    momentum: float = setting(0.9, "Share of the last update that carries on; 0 is plain SGD", ge=0, lt=1)
    nesterov: bool = setting(False, "Whether the gradient is taken ahead, where momentum leads", advanced=True)
    weight_decay: float = setting(0.0, "Pull of the weight matrices towards zero, added to the gradient", ge=0, le=1)

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        import torch

        from engine.optim.groups import groups

        return torch.optim.SGD(groups(model, self), lr=self.lr, momentum=self.momentum,
                               nesterov=self.nesterov and self.momentum > 0, fused=True)

    def state_numbers(self, name: str, shape: tuple[int, ...]) -> int:
        return math.prod(shape) if self.momentum else 0
