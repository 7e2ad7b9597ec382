"""GGUF cost: what the rounding of the files for llama.cpp loses, by the same figures and limits as the ONNX files'.

The weights are read back from the file that was written, by llama.cpp's own library, into our decoder, which computes
with them in float32. What llama.cpp itself rounds while it computes is not in the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.export import PRECISIONS, Precision
from engine.export.cost import Form
from engine.export.gguf import require, restored
from engine.model.decoder import Cache, Decoder

LIKE = {"f32": "float16", "f16": "float16", "q8_0": "int8", "q4_0": "int4"}
"""The precision whose limits hold for a kind of file: the one of as many bits."""


def forms(model: Decoder, bundle: Path, paths: Mapping[str, str], precisions: Sequence[Precision]) -> list[Form]:
    """The bundle's files by their kinds as `cost.measure` takes them, with the limits that were asked for."""
    asked = {precision.kind: precision for precision in precisions}
    return [Form(kind, bundle / path, lambda path=path: Rounded(model, bundle / path),
                 (asked.get(LIKE[kind]) or PRECISIONS[LIKE[kind]]()).limits) for kind, path in paths.items()]


class Rounded:
    """A decoder with the weights of a file, called as `parity.Client` is; the past is in its cache."""

    def __init__(self, model: Decoder, path: Path) -> None:
        gguf = require()
        found = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
                 for tensor in gguf.GGUFReader(path).tensors}
        with torch.device("meta"):
            self.model = Decoder(model.config).eval()
        self.model.load_state_dict({name: torch.tensor(restored(model.config, found, name), dtype=torch.float32)
                                    for name in model.state_dict()}, assign=True)

    @torch.no_grad()
    def read(self, ids: np.ndarray, mask: np.ndarray, past: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Logits (B, T, V) of the tokens (B, T) after the past, none if it is empty, and the new past."""
        cache, = past or [Cache()]
        return self.model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), cache=cache).numpy(), [cache]
