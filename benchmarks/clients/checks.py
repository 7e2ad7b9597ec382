"""What the scripts here share: the bundles that a client is asked for, and how well it did."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

EXACT = ("model.onnx", "model_fp16.onnx", "model.safetensors")
"""Files that are computed in float32: a client writes the same tokens. Where weights are rounded, each build of
onnxruntime rounds activations in its own way (its wasm not at all), so that a tie may end otherwise and the text goes
on differently; there the probabilities of the next token are compared."""

CLOSE = 2e-3    # nats; rounding to 4 bits costs 3e-2 to 1e-1 of these toys, to 8 bits 3e-4 to 3e-3


def asked(folder: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is expected of each bundle in FOLDER, or of those whose names begin so."""
    for name, wanted in json.loads((folder / "expected.json").read_text()).items():
        if not names or name.startswith(tuple(names)):
            yield name, wanted


class Verdict:
    """A line for each file that a client read; `end` leaves with 1 if it wrote anything else than it should."""

    failed = False

    def tell(self, name: str, file: str, new: Sequence[Any], wanted: Sequence[Any], more: str = "") -> None:
        """Greedy tokens, or greedy text: as many as are wanted."""
        equal = next((i for i, pair in enumerate(zip(new, wanted, strict=False)) if pair[0] != pair[1]),
                     min(len(new), len(wanted)))
        unit = "characters" if isinstance(wanted, str) else "greedy tokens"
        further = f", {len(new) - len(wanted)} too many" if len(new) > len(wanted) else ""
        print(f"{name:18} {file:22} {equal} of {len(wanted)} {unit} equal{more}{further}", flush=True)
        self.failed |= (equal < len(wanted) or bool(further)) and file in EXACT

    def same(self, name: str, what: str, ids: Sequence[int], wanted: Sequence[int]) -> None:
        """Tokens of a prompt."""
        if list(ids) != list(wanted):
            self.wrong(name, what, f"is cut into {list(ids)}, and should be {list(wanted)}")

    def near(self, name: str, file: str, logits: Sequence[Sequence[float]], wanted: Sequence[Sequence[float]]) -> None:
        """Logits at the same places, in the client and in our own runtime."""
        found = sum(map(divergence, wanted, logits)) / len(wanted)
        print(f"{name:18} {file:22} KL divergence {found:.1e} at {len(wanted)} places", flush=True)
        self.failed |= not (len(logits) == len(wanted) and found < CLOSE)

    def wrong(self, name: str, file: str, sentence: str) -> None:
        print(f"{name:18} {file:22} {sentence}", flush=True)
        self.failed = True

    def end(self) -> None:
        sys.exit(self.failed)


def divergence(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """KL divergence, in nats, of the probabilities that two rows of logits stand for."""
    one, other = (_log_shares(row) for row in (ours, theirs))
    return sum(math.exp(p) * (p - q) for p, q in zip(one, other, strict=True))


def _log_shares(row: Sequence[float]) -> list[float]:
    top = max(row)
    total = top + math.log(sum(math.exp(value - top) for value in row))
    return [value - total for value in row]
