"""Export: ONNX bundles, and the proof that a bundle is the same model. The menu of this noun: its settings."""

from __future__ import annotations

from typing import Literal

from engine.config import Config, setting


class ExportConfig(Config):
    """Which checkpoint becomes a bundle, and how close its logits must be."""

    checkpoint: Literal["best", "last"] = setting("best", "Checkpoint to export: lowest validation loss, or newest")
    tolerance: float = setting(1e-3, "Largest difference of any logit between PyTorch and onnxruntime that passes",
                               gt=0, le=1)
    licence: str = setting("", "Licence of the model, written into its card; empty says that none was given")
