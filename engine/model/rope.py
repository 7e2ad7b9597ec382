"""RoPE's frequencies, and how published models stretch them over longer contexts. Torch-free."""

from __future__ import annotations

import math

import numpy as np

from engine.model import ModelConfig


def stretch(config: ModelConfig) -> np.ndarray | None:
    """What each pair's frequency is multiplied by, (head size / 2) float32; None where nothing is.

    linear: all of them slower by the factor (Chen et al. 2023). llama3: those whose wave is longer than
    the original context by the whole factor, short ones not at all, those between by a part of it
    (Dubey et al. 2024). yarn: the same, but what lies between is counted in pairs (Peng et al. 2024).
    """
    if config.rope_scaling == "none":
        return None
    factor = np.float32(config.rope_factor)
    pairs = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    if config.rope_scaling == "linear":
        return np.full(len(pairs), 1 / factor, np.float32)
    if config.rope_scaling == "yarn":
        kept = _kept_by_yarn(config)
    else:
        frequency = np.float32(1) / np.float32(config.rope_theta) ** pairs
        waves = config.rope_original_context * frequency / np.float32(2 * math.pi)    # in the original context
        low, high = np.float32(config.rope_low_waves), np.float32(config.rope_high_waves)
        kept = np.clip((waves - low) / (high - low), 0, 1)
    return ((1 - kept) / factor + kept).astype(np.float32)


def _kept_by_yarn(config: ModelConfig) -> np.ndarray:
    """How much of each pair's frequency stays: 1 down to 0 between two whole pairs, one a bound of the waves."""

    def pair(waves: float) -> float:
        """The place, between pairs, of the frequency that makes so many waves in the original context."""
        length = config.rope_original_context / (waves * 2 * math.pi)
        return config.head_size * math.log(length) / (2 * math.log(config.rope_theta))

    first = max(math.floor(pair(config.rope_high_waves)), 0)
    last = min(math.ceil(pair(config.rope_low_waves)), config.head_size - 1)
    width = np.float32(last - first if last != first else 0.001)
    return 1 - np.clip((np.arange(config.head_size // 2, dtype=np.float32) - first) / width, 0, 1)


def amplitude(config: ModelConfig) -> float:
    """What cosines and sines are multiplied by: YaRN sharpens attention as contexts grow, by its square."""
    if config.rope_scaling != "yarn":
        return 1.0
    return config.rope_attention_factor or yarn_attention(config.rope_factor)


def yarn_attention(factor: float, scale: float = 1.0) -> float:
    """sqrt(1/t) of a factor (Peng et al. 2024, equation 22); `scale` is a published model's mscale."""
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0
