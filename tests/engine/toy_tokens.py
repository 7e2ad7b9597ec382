"""A toy dataset and a folder of its tokens."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.tokens import TokensConfig
from engine.tokens.shards import tokenize
from engine.workspace import Workspace

SYLLABLES = ["ka", "lo", "mi", "ne", "ru", "sa", "té", "vö", "zu", "ßa"]


def texts(number: int, seed: int = 0) -> list[str]:
    """Documents of 5 to 60 made-up words, some with letters of two bytes."""
    dice = random.Random(seed)
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 4))) for _ in range(200)]
    return [" ".join(dice.choices(words, k=dice.randint(5, 60))) + "." for _ in range(number)]


def dataset(workspace: Workspace, train: list[str], val: list[str], name: str = "toy") -> Path:
    """A dataset folder of these documents in two Parquet files, as curation writes it."""
    rows = [(text, "train") for text in train] + [(text, "val") for text in val]

    def build(folder: Path) -> dict:
        half = len(rows) // 2
        for i, part in enumerate((rows[:half], rows[half:])):
            columns = {"id": [str(n) for n in range(len(part))], "text": [text for text, _ in part],
                       "source": ["toy"] * len(part), "split": [split for _, split in part]}
            pq.write_table(pa.table(columns), folder / f"documents-{i:05d}.parquet")
        return {}

    return workspace.make("datasets", name, {"rows": rows}, build)


def tokens(workspace: Workspace, train: int = 300, val: int = 40, **settings) -> Path:
    """A tokens folder of that many documents with a vocabulary of 400."""
    made = dataset(workspace, texts(train, seed=1), texts(val, seed=2))
    return tokenize(TokensConfig(**{"vocab_size": 400, **settings}), made, workspace, "toy")
