"""A toy model that scores texts, its checkpoint, and the bundle made of it."""

from __future__ import annotations

from pathlib import Path

import toy_bundle
import toy_models

from engine.export import ExportConfig
from engine.export.bundle import export
from engine.model import scorer
from engine.model.scorer import ONE_SCORE, Scorer

PAD = 3


def model(form: str = "llama", labels: tuple[str, ...] = ONE_SCORE, pad: int | None = PAD, seed: int = 0,
          **changes) -> Scorer:
    return toy_models.stir(Scorer(toy_models.config(form, **changes), labels, pad), seed)


def checkpoint(folder: Path, form: str = "llama", **given) -> Path:
    """A Hugging Face folder of a stirred toy scorer that knows the toy texts' tokens."""
    toy_bundle.checkpoint(folder, form)     # for its tokenizer
    toy = model(form, **{"vocab_size": toy_bundle.VOCABULARY, "context_length": toy_bundle.CONTEXT, **given})
    scorer.save(toy, folder, folder.parent / "tokenizer.json")
    return folder


def bundle(folder: Path, form: str = "llama", asked: ExportConfig | None = None, **given) -> Path:
    """The bundle `folder`/judge of a checkpoint made beside it."""
    made, verdict = export(checkpoint(folder / "checkpoint", form, **given), asked or ExportConfig(), folder / "judge")
    assert verdict["passed"], verdict["sentence"]
    return made
