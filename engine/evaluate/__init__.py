"""Evaluate: how good a model is. The menu of this noun: its settings."""

from __future__ import annotations

from engine.config import Config, setting


class EvaluateConfig(Config):
    """What the report measures on validation text, and which texts it samples."""

    max_tokens: int = setting(200_000, "Most validation tokens to measure the loss on", ge=1, unit="tokens")
    prompts: tuple[str, ...] = setting(("It was", "She had", "The"), "Beginnings that the report's samples continue")
    sample_tokens: int = setting(80, "Length of a sample text", ge=1, le=4096, unit="tokens")
    temperature: float = setting(0.8, "Randomness of the samples; 0 always takes the likeliest token", ge=0, le=5)
    text_of: str = setting("", "Another run, on whose held-out text to measure, so that two models are compared on "
                               "one text; empty for the run's own")
