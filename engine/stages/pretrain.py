"""Pretrain: each token is predicted from those before it."""

from __future__ import annotations

from torch import Tensor

from engine.model.cross_entropy import cross_entropy
from engine.stages.base import Stage
from engine.tokens.batches import Rows


class PretrainStage(Stage):
    """-log p(token | tokens before it), summed over a row of packed text (Radford et al. 2018)."""

    def loss(self, batch: Tensor | Rows) -> tuple[Tensor, int]:
        rows = Rows.of(batch)                                                                # (B, T) each
        hidden = self.hidden(rows.inputs, rows.documents)                                    # (B, T, d)
        return cross_entropy(hidden, self.model.head_weight, rows.targets), rows.num_targets
