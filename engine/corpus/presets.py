"""Presets: lists of steps to begin with, by what the documents are."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    "web": (                                    # the order of FineWeb (Penedo et al. 2024): cheap and coarse first
        {"kind": "html"},
        {"kind": "clean"},
        {"kind": "language"},
        {"kind": "gopher_repetition"},
        {"kind": "quality", "min_words": 50, "max_words": 100_000},
        {"kind": "c4", "terminal_punctuation": False, "min_line_words": 3, "min_sentences": 5},
        {"kind": "fineweb"},
        {"kind": "malformed"},
        {"kind": "exact_duplicates"},
        {"kind": "near_duplicates"},
        {"kind": "repeated_lines"},
        {"kind": "privacy"},
    ),
    "books": (
        {"kind": "clean"},
        {"kind": "passages"},
        {"kind": "quality"},
        {"kind": "gopher_repetition"},
        {"kind": "malformed"},
        {"kind": "exact_duplicates"},
        {"kind": "near_duplicates"},
    ),
    "code": (                                   # the limits of Codex and StarCoder (Chen et al. 2021; Li et al. 2023)
        {"kind": "clean", "whitespace": False},
        {"kind": "malformed", "max_symbols": 0.75, "max_line": 1000, "max_mean_line": 100, "cut_off": False},
        {"kind": "exact_duplicates"},
        {"kind": "near_duplicates"},
        {"kind": "privacy", "phone": "keep", "card": "keep", "iban": "keep"},
    ),
    "chat": (
        {"kind": "html"},
        {"kind": "clean"},
        {"kind": "quality", "min_words": 3, "min_word_length": 2, "max_symbols": 0.5, "min_alphabetic": 0.5},
        {"kind": "malformed", "cut_off": False, "max_symbols": 0.5},
        {"kind": "exact_duplicates"},
        {"kind": "privacy"},
    ),
    "none": (),
}
"""The steps as a CorpusConfig takes them: what is left out of a step is its default."""
