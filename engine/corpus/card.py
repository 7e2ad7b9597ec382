"""Card: a dataset as a README.md that Hugging Face reads, written from the ledger's figures alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.corpus.bias_table import NOTE, heads, rows

SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7),
         ("10M<n<100M", 10**8), ("100M<n<1B", 10**9))
MOST_REASONS = 5


def card(name: str, made_from: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The text of a dataset's card, from what its manifest tells; the same for the same dataset."""
    steps = summary["steps"]
    read = steps[0]["documents_in"] if steps else summary["documents"]
    size = next((words for words, below in SIZES if summary["documents"] < below), "n>1B")
    front = ["---", f"pretty_name: {json.dumps(name, ensure_ascii=False)}", "task_categories:", "- text-generation",
             "size_categories:", f"- {size}", "configs:", "- config_name: default",
             "  data_files: documents-*.parquet", "tags:", "- training-studio", "---", ""]
    parts = [
        f"# {_plain(name)}", "",
        f"{_number(summary['documents'])} documents, {_number(summary['bytes'])} bytes of text: "
        f"{_number(summary['train_documents'])} for training, {_number(summary['val_documents'])} held out "
        f"(column `split`). {_number(read)} documents were read, {_number(summary['quarantined'])} records could not "
        "be read.", "",
        "## Columns", "",
        "| column | what it holds |", "|---|---|",
        "| `id` | where the document comes from: file, line, passage |",
        "| `text` | the document |", "| `source` | its file |", "| `split` | train or val, by a hash of the text |",
        "| `group` | the same number for near duplicates of one another; mostly empty |", "",
        "## Sources", "", "| source | files | bytes | contents (xxh3-128) |", "|---|---|---|---|",
        *(f"| {_plain(source['path'])} | {_number(source['files'])} | {_number(source['bytes'])} "
          f"| `{source['contents']}` |" for source in made_from["sources"]), "",
        *_skipped(summary.get("skipped", ())),
        "## What was done", ""]
    if steps:
        parts += ["| step | documents in | out | bytes in | out | edited | cut or copied | pardoned |",
                  "|---|---|---|---|---|---|---|---|",
                  *(f"| {_plain(step['step'])} | " + " | ".join(_number(step[key]) for key in (
                      "documents_in", "documents_out", "bytes_in", "bytes_out", "edited", "added", "pardoned")) + " |"
                    for step in steps), ""]
    else:
        parts += ["Nothing: the documents are as they were read.", ""]
    for step in steps:
        for title, counts in (("dropped", step["reasons"]), ("counted", step["kinds"])):
            if counts:
                shown = list(counts.items())[:MOST_REASONS]
                more = f", and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
                told = ", ".join(f"{_plain(what)} ({_number(count)})" for what, count in shown)
                parts.append(f"- {_plain(step['step'])} {title}: {told}{more}")
    if leak := summary.get("leak"):
        parts += ["", "## Held-out documents that stand in the training text", "",
                  f"{_number(leak['documents'])} of {_number(summary['val_documents'])} held-out documents share at "
                  f"least {leak['share']:.0%} of their runs of {leak['bytes']} bytes with training documents; of the "
                  f"{_number(leak['runs'])} such runs that were looked at, {_number(leak['shared'])} stand there too."]
    for shares in summary.get("shares", ()):
        parts += ["", f"## Shares of the text ({_plain(shares['step'])})", "",
                  f"| {shares['of']} | documents in | out | bytes in | out | share in | out | epochs |",
                  "|---|---|---|---|---|---|---|---|",
                  *(f"| {_plain(row['name'])} | " + " | ".join(_number(row[key]) for key in (
                      "documents_in", "documents_out", "bytes_in", "bytes_out")) +
                    f" | {row['share_in']:.1%} | {row['share_out']:.1%} | {row['epochs']:.2f} |"
                    for row in shares["rows"])]
    parts += bias_part(summary.get("bias"))
    parts += ["", "## Lengths", "", _lengths(summary["lengths"]), "",
              "## Settings", "", "```json", json.dumps(made_from["settings"], indent=2, ensure_ascii=False)
              .replace("`", "\\u0060"), "```", "",
              "Every document that was dropped or edited is in `ledger.parquet`, every record that could not be read "
              "in `quarantine.jsonl`.", ""]
    return "\n".join(front + parts)


def _skipped(left: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the sources hold that was not read, in a line for each."""
    lines = []
    for source in left:
        kinds = ", ".join(f"{_number(count)} × {_plain(what)}" for what, count in source["endings"].items())
        lines.append(f"- Nothing was read of {_number(source['files'])} more in {_plain(source['path'])}: {kinds}, "
                     f"such as {_plain(source['names'][0])}")
    return [*lines, ""] if lines else []


def bias_part(bias: Mapping[str, Any] | None) -> list[str]:
    """What was measured of bias, in a few lines."""
    if not bias:
        return []
    return ["", "## Bias", "", f"{NOTE} `bias.json` has more.", "", f"| measure | {' | '.join(heads(bias))} |",
            "|---|" + "---|" * len(heads(bias)),
            *(f"| {_plain(name)} | {' | '.join(values)} |" for name, values in rows(bias))]


def _lengths(lengths: Mapping[str, list[int]]) -> str:
    total, passed = sum(lengths["counts"]), 0
    marks: dict[str, int] = {}
    for edge, count in zip(lengths["edges"][1:], lengths["counts"], strict=True):
        passed += count
        for words, share in (("a tenth", 0.1), ("half", 0.5), ("nine tenths", 0.9)):
            if passed >= share * total and words not in marks:
                marks[words] = edge
    return "Characters of a document: " + ", ".join(f"{words} have fewer than {_number(edge)}"
                                                   for words, edge in marks.items()) + "."


def _number(value: int) -> str:
    return f"{value:,}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands: names and reasons come from files and settings."""
    for sign in "\\`*_<[|#":
        text = text.replace(sign, f"&#{ord(sign)};" if sign in "<|[" else f"\\{sign}")
    return " ".join(text.split())
