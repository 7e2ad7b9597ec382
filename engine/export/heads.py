"""Heads: weights for heads of any size, laid out in heads of a size that the attention kernel takes.

onnxruntime's GroupQueryAttention wants head sizes that are multiples of 8. Heads of another size
are widened with zeros, which change no product: neither a score nor what a head passes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from engine.model import ModelConfig

MULTIPLE = 8


def kernel_size(config: ModelConfig) -> int:
    """The head's size in the graph: the config's, rounded up to a multiple of 8."""
    return -(-config.head_size // MULTIPLE) * MULTIPLE


def widen(config: ModelConfig, weights: Mapping[str, np.ndarray], wide: int) -> dict[str, np.ndarray]:
    """The weights with every head `wide` wide."""
    size = config.head_size
    if size == wide:
        return dict(weights)
    numbers = np.arange(size)
    # RoPE turns place i with place i + size / 2: each half keeps its place in the wider half.
    places = numbers if config.position != "rope" else np.where(numbers < size // 2, numbers,
                                                               numbers + (wide - size) // 2)

    def spread(array: np.ndarray) -> np.ndarray:
        """(heads * size, ...) -> (heads * wide, ...)"""
        heads = array.reshape(-1, size, *array.shape[1:])
        made = np.zeros((len(heads), wide, *array.shape[1:]), array.dtype)
        made[:, places] = heads
        return made.reshape(-1, *array.shape[1:])

    found = dict(weights)
    for name, array in weights.items():
        module, _, kind = name.rpartition(".")
        part = module.rpartition(".")[2]
        if module.endswith((".attention.query", ".attention.key", ".attention.value")):
            found[name] = spread(array)
        elif module.endswith(".attention.output") and kind == "weight":
            found[name] = np.ascontiguousarray(spread(array.T).T)
        elif part in ("query_norm", "key_norm"):
            # The mean of squares is now over `wide` places, most of them the same: see `norm_eps`.
            found[name] = spread(array) * np.float32(math.sqrt(size / wide))
    return found


def norm_eps(config: ModelConfig, wide: int) -> float:
    """The epsilon of a norm inside a widened head: rms over `size` = sqrt(wide / size) * rms over `wide` with this."""
    return config.norm_eps * config.head_size / wide
