"""The table of a benchmark: what was measured, as short texts, for the terminal, a page and a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADS = (("", ""), ("size", "of the weights' files"), ("prefill", "tokens of the prompt read a second"),
         ("first token", "from the prompt to the first new token"), ("decode", "new tokens a second"),
         ("of the limit", "decode, as a share of what memory allows when all weights are read for each token; a model "
                          "that fits into the processor's cache can be above it"),
         ("", ""), ("load", "opening the model, the libraries being there already"),
         ("peak memory", "of the whole process, libraries included"))
BASE = "PyTorch, our decoder"   # the row that every benchmark has, whatever is installed


def heads(base: str) -> list[str]:
    """The names of the columns; `base` is the row that the others are multiples of."""
    named = [name for name, _ in HEADS]
    named[6] = f"× {base.partition(',')[0]}"
    return named


def cells(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], base: str) -> list[str]:
    """A row of `engine.export.benchmark` in the order of `heads`."""
    size = _mib(row["size_bytes"])
    if row["failed"]:
        return [row["name"], size, "failed", *[""] * 6]
    than = next((other.get("tokens_per_second") for other in rows if other["name"] == base), None)
    speed, limit = row["tokens_per_second"], row.get("limit_tokens_per_second")
    return [row["name"], size, f"{row['prefill_tokens_per_second']:,.0f}/s",
            f"{1000 * row['first_token_seconds']:,.3g} ms", f"{speed:,.0f}/s",
            f"{speed / limit:.0%}" if limit else "–", f"{speed / than:.2f}" if than else "–",
            f"{row['load_seconds']:.2g} s", _mib(row["peak_bytes"])]


def notes(found: Mapping[str, Any]) -> list[str]:
    """Sentences that belong below the table: how it was measured, and what to know of it."""
    machine, load = found["machine"], found.get("load")
    cores, rounds = machine.get("cores", 0), found["rounds"]
    told = [f"{found['prompt_tokens']} tokens read and {found['new_tokens']} written, greedily, at batch 1; each way "
            f"in a process of its own, in turns; the best of {rounds} round{'s' * (rounds != 1)}.",
            f"Measured on {machine.get('processor', 'an unknown processor')}, {cores:g} cores. Its memory gives "
            f"{machine['memory_bandwidth'] / 1e9:.3g} GB/s, measured: the limit of reading all weights for each token."]
    if load is not None and cores and load > 0.3 * cores:
        told.append(f"The machine had other work (load {load:.1f} before the start): compare the rows, and measure "
                    "again when it is idle.")
    other = [row["name"] for row in found["rows"] if row["precision"] == "float32" and not row["failed"]
             and row.get("greedy_tokens_equal") is not None and row["greedy_tokens_equal"] < found["new_tokens"]]
    if other:
        told.append(f"Of those in float32, {', '.join(other)} wrote another text than the first row in the end, as "
                    "happens where two tokens are almost equally likely.")
    return told + [f"{row['name']}: {row['failed']}" for row in found["rows"] if row["failed"]]


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB" if num_bytes >= 10 << 20 else f"{num_bytes / 2**20:.2g} MiB"
