"""Pretrain: each token is predicted from those before it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from engine.stages.base import Stage
from engine.tokens.batches import Rows


class PretrainStage(Stage):
    """-log p(token | tokens before it), summed over a row of packed text (Radford et al. 2018)."""

    def loss(self, batch: Tensor | Rows) -> tuple[Tensor, int]:
        rows = Rows.of(batch)                                                                # (B, T) each
        # (B, T, V); a softmax over bf16 logits is off by about 1 %
        logits = self.model(rows.inputs, documents=rows.documents).float()
        return F.cross_entropy(logits.flatten(0, 1), rows.targets.flatten(), reduction="sum"), rows.num_targets
