"""Inference: a bundle speaks, with numpy, tokenizers and onnxruntime alone: it works where torch is absent.

    model = load("bundles/novels")
    model.generate("It was", max_new_tokens=80, seed=1)

    load_scorer("bundles/helpful").score(["a text"])        # a reward model or a classifier
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.inference.generator import Generator
    from engine.inference.scorer import Scorer

__all__ = ["load", "load_scorer"]


def load(bundle: str | Path, threads: int = 0, precision: str = "float32", adapter: bool = False) -> Generator:
    """The model in a bundle's folder, ready to write.

    `threads` is how many cores one step uses; 0 chooses by the model's size. `precision` names one of
    the bundle's graphs ("int4"; `bundle.precisions` lists them). `adapter` switches on the LoRA adapter that a
    bundle keeps. Raises UserError that
    names the file when one is missing, cut, changed since the export, or leads out of the folder.
    """
    from engine.inference.generator import Generator

    return Generator(Path(bundle), threads, precision, adapter)


def load_scorer(bundle: str | Path, threads: int = 0, precision: str = "float32") -> Scorer:
    """The model in a bundle's folder, ready to score: a reward model or a classifier. As `load`."""
    from engine.inference.scorer import Scorer

    return Scorer(Path(bundle), threads, precision)
