"""Adapter: LoRA matrices as a file of onnxruntime's, which a graph takes in place of empty ones.

A graph that can be adapted has an input for each matrix, `MODULE.lora_A` (in, rank) and `MODULE.lora_B` (rank, out),
with a default of rank 0, which adds nothing. Whoever gives them, from the file or otherwise, switches the adapter on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from engine.export.heads import widen
from engine.model import ModelConfig
from engine.model.lora import Adapter

VERSION = 1     # of adapter and model, which onnxruntime keeps in the file and does not compare


def parameters(config: ModelConfig, adapter: Adapter, head_size: int) -> dict[str, np.ndarray]:
    """The inputs of a graph whose heads are `head_size` wide, float32, by their names."""
    found = {}
    for module, (down, up) in adapter.parts.items():
        name = f"{module}.weight"
        # What widens a matrix's rows or columns widens the one of the two that has them.
        if module.endswith(".attention.output"):
            first, second = widen(config, {name: down.numpy()}, head_size)[name], up.numpy()
        else:
            first, second = down.numpy(), widen(config, {name: up.numpy()}, head_size)[name]
        found[f"{module}.lora_A"] = np.ascontiguousarray(first.T)
        found[f"{module}.lora_B"] = np.ascontiguousarray(second.T)
    return found


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The arrays as an .onnx_adapter file."""
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(VERSION)
    file.set_model_version(VERSION)
    file.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    file.export_adapter(str(path))
