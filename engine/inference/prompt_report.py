"""Prompt report: what a set of prompts came to, in figures and as files for other programs and for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError

Rows = Sequence[Mapping[str, Any]]
ENDS = {"stop": "by itself", "length": "at its length", "": "was stopped"}


def figures(rows: Rows) -> dict[str, float]:
    """prompts, failed, tokens, tokens_per_second (prompts included), surprise (mean nats a token of a text), and
    ended, the share of the texts that ended by themselves."""
    whole = [row for row in rows if not row["error"]]
    tokens = sum(row["tokens"] for row in whole)
    taken = sum(row["seconds"] for row in whole)
    return {"prompts": len(rows), "failed": len(rows) - len(whole), "tokens": tokens,
            "tokens_per_second": tokens / max(1e-9, taken),
            "surprise": sum(row["surprise"] for row in whole) / max(1, len(whole)),
            "ended": sum(row["finish"] == "stop" for row in whole) / max(1, len(whole))}


def jsonl(rows: Rows) -> str:
    """One record a line, in the order of the prompts."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _in_order(rows))


def markdown(rows: Rows, model: str, settings: Mapping[str, Any], note: str = "") -> str:
    """A page on it: settings, figures, then every prompt with its text as it is."""
    told = figures(rows)
    head = [("model", model), *settings.items(), ("prompts", f"{told['prompts']:,}"),
            *([("could not be written", f"{told['failed']:,}")] if told["failed"] else []),
            ("tokens", f"{told['tokens']:,}"), ("tokens per second, prompts included",
                                               f"{told['tokens_per_second']:,.0f}"),
            ("mean surprise (nats)", f"{told['surprise']:.3f}"), ("ended by themselves", f"{told['ended']:.0%}")]
    parts = [f"# Prompts written by {_plain(model)}", *([note] if note else []), "\n".join(
        ["| | |", "|---|---|", *(f"| {_plain(str(name))} | {_plain(str(value))} |" for name, value in head)])]
    for row in _in_order(rows):
        parts.append(f"## {row['number'] + 1}\n\n{_fenced(row['prompt'])}")
        if row["error"]:
            parts.append(f"**Not written:** {_plain(row['error'])}")
            continue
        parts += [_fenced(row["text"]), f"{row['tokens']:,} tokens, ended {ENDS[row['finish']]}, surprise "
                  f"{row['surprise']:.3f} nats, {row['repeated']:.0%} repeated, seed {row['seed']}"]
    return "\n\n".join(parts) + "\n"


def save(path: Path, rows: Rows, model: str, settings: Mapping[str, Any], note: str = "") -> None:
    """Write the report, in the form that the file's ending asks for. UserError as in `require`."""
    require(path)
    files.write(path, jsonl(rows) if path.suffix.lower() == ".jsonl" else markdown(rows, model, settings, note))


def require(path: Path) -> None:
    """UserError for a report whose ending is unknown or whose folder is missing; what stands there stays."""
    if path.suffix.lower() not in (".jsonl", ".md"):
        raise UserError(f"{path} must end in .jsonl, for programs, or .md, to be read.", where="report")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is no folder; make it, or choose another place for the report.",
                        where="report")


def _in_order(rows: Rows) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: row["number"])


def _fenced(text: str) -> str:
    """Text as it is, whatever it holds."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _plain(text: str) -> str:
    for sign in "\\`*_<[|#":
        text = text.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return " ".join(text.split())
