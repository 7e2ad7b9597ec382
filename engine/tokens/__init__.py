"""Tokens: documents -> tokenizer -> packed shards -> batches. The menu of this noun: its settings."""

from __future__ import annotations

from engine.config import Config, setting

END_OF_TEXT = "<|endoftext|>"
ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")
"""What published tokenizers call the end of a text, in the order in which it is looked for."""


class TokensConfig(Config):
    """The tokenizer: byte-level BPE trained on the dataset, or one that exists."""

    vocab_size: int = setting(2048, "Number of tokens, the 256 bytes and the special tokens included",
                              ge=258, le=1_000_000, unit="tokens")
    tokenizer: str = setting("", "Path of an existing tokenizer.json to use instead of training one; "
                                 "its size replaces the vocabulary size")
    special_tokens: tuple[str, ...] = setting((), "Extra tokens that are never split, such as chat markers",
                                              advanced=True)
