"""A toy model with a chat template whose turns end with a token of their own."""

from __future__ import annotations

from pathlib import Path

import toy_bundle
import toy_tokens

from engine import files
from engine.tokens import TokensConfig
from engine.tokens.presets import CHAT_TEMPLATES
from engine.tokens.tokenizer import train

CHATML = CHAT_TEMPLATES["chatml"]


def bundle(folder: Path, **changes) -> Path:
    """The bundle `folder`/toy, which answers by ChatML; its checkpoint is beside it."""
    config = TokensConfig(vocab_size=toy_bundle.VOCABULARY, special_tokens=CHATML.special_tokens)
    train([toy_tokens.texts(300, seed=1)], config).save(str(folder / "tokenizer.json"))
    files.write_json(folder / "tokenizer_config.json", {"chat_template": CHATML.template})
    return toy_bundle.bundle(folder, **changes)
