"""RoPE's frequencies, and how published models stretch them over longer contexts. Torch-free."""

from __future__ import annotations

import math

import numpy as np

from engine.model import ModelConfig


def stretch(config: ModelConfig) -> np.ndarray | None:
    """What each pair's frequency is multiplied by, (head size / 2) float32; None where nothing is.

    linear: all of them slower by the factor (Chen et al. 2023). llama3: those whose wave is longer than
    the original context by the whole factor, short ones not at all, those between by a part of it
    (Dubey et al. 2024).
    """
    if config.rope_scaling == "none":
        return None
    factor = np.float32(config.rope_factor)
    pairs = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    if config.rope_scaling == "linear":
        return np.full(len(pairs), 1 / factor, np.float32)
    frequency = np.float32(1) / np.float32(config.rope_theta) ** pairs
    waves = config.rope_original_context * frequency / np.float32(2 * math.pi)    # in the original context
    low, high = np.float32(config.rope_low_waves), np.float32(config.rope_high_waves)
    kept = np.clip((waves - low) / (high - low), 0, 1)
    return ((1 - kept) / factor + kept).astype(np.float32)
