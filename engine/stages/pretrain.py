"""Pretrain: each token is predicted from those before it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from engine.stages.base import Stage


class PretrainStage(Stage):
    """-log p(token | tokens before it), summed over a row of packed text (Radford et al. 2018)."""

    def loss(self, batch: Tensor) -> tuple[Tensor, int]:
        inputs, targets = batch[:, :-1], batch[:, 1:]                                        # (B, T) each
        logits = self.model(inputs).float()  # (B, T, V); a softmax over bf16 logits is off by about 1 %
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"), targets.numel()
