"""The documents that both sides of a comparison get, and the near duplicates planted among them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from engine.corpus import Source
from engine.corpus.readers import Document, read
from engine.corpus.sources import File, format_of

EDITS = (0.01, 0.02, 0.05)
"""Shares of the words that a planted copy has otherwise."""

WORDS = range(100, 1500)
"""Words of a document that copies are made of: from fewer, 1 % is no word."""


def texts_of(folder: Path) -> Iterator[tuple[Path, Iterator[str]]]:
    """The files of a folder that the studio reads, and the texts of each."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and format_of(path)):
        file = File(path, path.name, format_of(path), Source(path=path.name), path.stat().st_size)
        yield path, (found.text for found in read(file) if isinstance(found, Document))


def gather(folder: Path, most: int) -> list[str]:
    """The texts of a folder's files in an order that any part of shows the whole, at most so many bytes."""
    texts = [text for _, found in texts_of(folder) for text in found]
    random.Random(0).shuffle(texts)
    size = 0
    for number, text in enumerate(texts):
        size += len(text.encode())
        if size > most:
            return texts[:number]
    return texts


def plant(texts: list[str], copies: int) -> tuple[list[str], list[dict[str, float]]]:
    """The texts with edited copies at their end, and of each copy its place, its original's and its share of edits."""
    dice = random.Random(1)
    fit = [place for place, text in enumerate(texts) if len(text.split()) in WORDS]
    chosen = dice.sample(fit, min(copies * len(EDITS), len(fit) // len(EDITS) * len(EDITS)))
    vocabulary = [word for place in chosen[:200] for word in texts[place].split() if word.isalpha()]
    planted, made = [], list(texts)
    for number, place in enumerate(chosen):
        share = EDITS[number % len(EDITS)]
        planted.append({"copy": len(made), "original": place, "edits": share})
        made.append(edited(texts[place], share, vocabulary, dice))
    return made, planted


def edited(text: str, share: float, vocabulary: list[str], dice: random.Random) -> str:
    """The text with this share of its words replaced by others, taken out, or given a neighbour, a third each."""
    parts = text.split(" ")
    words = [place for place, part in enumerate(parts) if part]
    for count, place in enumerate(dice.sample(words, max(1, round(share * len(text.split()))))):
        other = dice.choice(vocabulary)
        parts[place] = (other, "", f"{parts[place]} {other}")[count % 3]
    return " ".join(parts)


def write(path: Path, texts: list[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
