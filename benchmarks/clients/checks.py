"""What the scripts here share: the bundles that a client is asked for, and how well it did."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def asked(folder: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is expected of each bundle in FOLDER, or of those whose names begin so."""
    for name, wanted in json.loads((folder / "expected.json").read_text()).items():
        if not names or name.startswith(tuple(names)):
            yield name, wanted


class Verdict:
    """A line for each file that a client read; `end` leaves with 1 if it wrote anything else than it should."""

    failed = False

    def tell(self, name: str, file: str, new: Sequence[Any], wanted: Sequence[Any], more: str = "") -> None:
        equal = next((i for i, pair in enumerate(zip(new, wanted, strict=False)) if pair[0] != pair[1]),
                     min(len(new), len(wanted)))
        unit = "characters" if isinstance(wanted, str) else "greedy tokens"
        print(f"{name:16} {file:22} {equal} of {len(wanted)} {unit} equal{more}", flush=True)
        self.failed |= equal < len(wanted)

    def wrong(self, name: str, file: str, sentence: str) -> None:
        print(f"{name:16} {file:22} {sentence}", flush=True)
        self.failed = True

    def end(self) -> None:
        sys.exit(self.failed)
