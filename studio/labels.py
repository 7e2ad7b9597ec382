"""Labels: what settings are called on screen, also inside sentences that name them as a recipe does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from engine.config import Config, Part, Problem, Setting, settings
from engine.recipe import Recipe

ACRONYMS = {"lr": "learning rate", "eps": "epsilon", "kv": "KV", "mlp": "MLP", "qk": "QK", "rope": "RoPE",
            "num": "number of", "vocab": "vocabulary", "adamw": "AdamW", "sgd": "SGD", "wsd": "WSD", "max": "most",
            "gguf": "GGUF", "norm": "norm", "grad": "gradient", "nfc": "NFC", "ema": "EMA", "ns": "Newton-Schulz"}
NAMES = {"max_steps": "Steps", "max_tokens": "Most tokens", "max_grad_norm": "Gradient clipping",
         "micro_batch_size": "Micro-batch size", "validate_every": "Validate every", "sample_every": "Sample every",
         "checkpoint_every": "Checkpoint every", "rope_theta": "RoPE base", "lr": "Learning rate",
         "schedule_free": "Schedule-Free", "lr_factor": "Learning-rate factor", "lr_range": "Learning-rate range test",
         "num_kv_heads": "Key-value heads", "num_heads": "Heads", "num_layers": "Layers"}
WRITTEN = re.compile(r"\b[a-z]+(?:_[a-z0-9]+|\.[a-z][a-z0-9_]*)+\b(?!=|/)")
"""What may be a setting's name in a sentence. One with = behind it is a word to be typed as it is."""


def label(name: str) -> str:
    """A setting's or part's name for reading: "warmup_steps" is "Warmup steps"."""
    if name in NAMES:
        return NAMES[name]
    words = " ".join(ACRONYMS.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:]


def title(field: str) -> str:
    """A dotted field in words: "model.rope_theta" is "Model RoPE base", "corpus.steps.1" is "Corpus steps 2"."""
    section, _, rest = field.partition(".")
    *_, last = [part for part in rest.split(".") if not part.isdigit()] or [""]
    place = re.search(r"\.(\d+)$", field)
    words = [label(section), _inside(label(last)) if last else "", str(int(place[1]) + 1) if place else ""]
    return " ".join(filter(None, words))


def said(problem: Problem) -> str:
    """A problem as a sentence about what is on the screen: "Train steps is 0, must be at least 1"."""
    return f"{title(problem.field)} {named(problem.sentence)}".strip()


def named(sentence: str) -> str:
    """A sentence in which settings have the names that the forms show: num_heads is “Heads”."""
    def shown(found: re.Match[str]) -> str:
        name = found[0]
        return f"“{title(name)}”" if name in _written() else name

    return WRITTEN.sub(shown, sentence)


def _inside(words: str) -> str:
    """A label in the middle of a sentence; RoPE, KV and AdamW stay as they are."""
    return words[:1].lower() + words[1:] if words.partition(" ")[0][1:].islower() else words


@cache
def _written() -> frozenset[str]:
    """The names of all settings, dotted and bare."""
    dotted = {f"{section.name}.{inner.name}" for section in settings(Recipe) for inner in _within(section)}
    return frozenset(dotted | {name.partition(".")[2] for name in dotted})


def _within(setting: Setting) -> Iterator[Setting]:
    """The settings below one, whichever part is chosen there."""
    if setting.config is None:
        return
    kinds: list[type[Config]] = [setting.config]
    if issubclass(setting.config, Part) and not setting.config.kind:
        kinds = [setting.config.table[kind] for kind in setting.config.table]
    for kind in kinds:
        for inner in settings(kind):
            yield inner
            yield from _within(inner)
