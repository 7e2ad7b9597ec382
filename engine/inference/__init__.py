"""Inference: a bundle speaks, with numpy, tokenizers and onnxruntime alone: it works where torch is absent.

    model = load("bundles/novels")
    model.generate("It was", max_new_tokens=80, seed=1)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.inference.generator import Generator

__all__ = ["load"]


def load(bundle: str | Path, threads: int = 0, precision: str = "float32") -> Generator:
    """The model in a bundle's folder, ready to write.

    `threads` is how many cores one step uses; 0 chooses by the model's size. `precision` names one of
    the bundle's graphs ("int4"; `bundle.precisions` lists them). Raises UserError that
    names the file when one is missing, cut, changed since the export, or leads out of the folder.
    """
    from engine.inference.generator import Generator

    return Generator(Path(bundle), threads, precision)
