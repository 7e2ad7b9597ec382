"""One step on hand-made documents."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from engine.config import read
from engine.corpus import Step


def judged(step: str | dict[str, Any], *texts: str) -> pa.Table:
    """The batch that a step makes of these texts."""
    batch = pa.table({"id": [str(n) for n in range(len(texts))], "text": pa.array(texts, pa.large_string()),
                      "source": ["a.txt"] * len(texts), "row": pa.array(range(len(texts)), pa.int64())})
    return read(Step, step).begin()(batch)


def through(step: str | dict[str, Any], *texts: str) -> list[tuple[str, str | None]]:
    """Each document that comes out of a step: its text, and why it is dropped."""
    out = judged(step, *texts)
    return list(zip(out["text"].to_pylist(), out["reason"].to_pylist(), strict=True))


def why(step: str | dict[str, Any], text: str) -> str | None:
    """Why a step drops a text."""
    return through(step, text)[0][1]
