"""Encoding a dataset: our encoder against the batch encode of Hugging Face's `tokenizers`, ids compared.

    python benchmarks/encode.py [FOLDER_OF_TEXT] [--vocab 4096] [--rounds 5]

Both sides encode the same documents with the same tokenizer, in turn, round after round; the ratio is of CPU
seconds (the sum over threads, which a busy machine disturbs least) and of wall seconds, of each side's best round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.tokens import TokensConfig
from engine.tokens import tokenizer as bpe
from engine.tokens.encoder import Encoder
from engine.workspace import ASSETS

DOCUMENT = 2000  # characters: about what a cleaned web page has


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    cpu, wall = time.process_time(), time.perf_counter()
    made = work()
    return time.process_time() - cpu, time.perf_counter() - wall, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ASSETS / "corpora" / "novels")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=200)
    asked = parser.parse_args()
    whole = "".join(path.read_text(errors="replace") for path in sorted(asked.folder.rglob("*.txt")))
    texts = [whole[i:i + DOCUMENT] for i in range(0, min(len(whole), int(asked.megabytes * 1e6)), DOCUMENT)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    tokenizer = bpe.train([texts[::max(1, len(whole) // 20_000_000)]], TokensConfig(vocab_size=asked.vocab))
    build, _, encoder = timed(lambda: Encoder(tokenizer))
    assert encoder.fast
    encoder(texts[:100])  # its comparison with the library is over
    best: dict[str, list[tuple[float, float]]] = {"tokenizers": [], "ours": []}
    for _ in range(asked.rounds):
        *theirs, expected = timed(lambda: tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        *ours, found = timed(lambda: encoder(texts))
        best["tokenizers"].append(tuple(theirs))
        best["ours"].append(tuple(ours))
        assert all(np.array_equal(one.ids, other) for one, other in zip(expected, found, strict=True))
    print(f"{size:.1f} MB in {len(texts):,} documents, {asked.vocab} tokens; ids identical in every round; "
          f"the encoder was built and proven in {build:.2f} CPU s")
    for place, name in enumerate(("CPU", "wall")):
        one, other = (min(row[place] for row in best[side]) for side in ("tokenizers", "ours"))
        print(f"{name} seconds: tokenizers {one:.2f}, ours {other:.2f}: {one / other:.2f} x")


if __name__ == "__main__":
    main()
