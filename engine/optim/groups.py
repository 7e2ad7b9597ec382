"""Which parameters weight decay pulls on."""

from __future__ import annotations

from typing import Any

import torch


def groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices, which decay; vectors (norms, biases), which must not. Each parameter once, tied ones too."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
