"""Tokens: documents -> tokenizer -> packed shards -> batches. The menu of this noun: its settings."""

from __future__ import annotations

from typing import Literal

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
    chat_template: str = setting("", "How messages become one text: chatml, llama3, plain, or the path of a Jinja "
                                     "file; its special tokens are added, and it goes wherever the tokenizer goes")
    packing: Literal["concatenate", "best_fit"] = setting(
        "concatenate", "How documents share the rows that the model reads: end to end, cut where a row ends, or "
                       "best-fit, which cuts only documents longer than a row and pads what stays empty")
    document_mask: bool = setting(False, "Whether attention stays within a document and positions begin anew with "
                                         "each; slower, since rows need a mask of their own")
