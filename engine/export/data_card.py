"""Data card: what a model's texts were, and what was done to them, from the manifest of its dataset."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from engine import files
from engine.config import UserError
from engine.corpus.bias_table import NOTE, heads, rows

MOST_REASONS = 3
MOST_BYTES = 1 << 20        # of a file that may state a licence
STATED_IN = re.compile(r"(LICEN[SC]E|COPYING|UNLICENSE|SOURCES)(\.\w+)?", re.IGNORECASE)
UNSTATED = "not stated"


def facts(dataset: Path, resolve: Callable[[str], Path]) -> dict[str, Any]:
    """What the card tells of a dataset: its manifest's `made_from` and `summary`, and the licences of its sources as
    {path: words}. Empty where there is no dataset of this kind any more. `resolve`: where a source's path leads."""
    try:
        manifest = files.read_json(dataset / files.MANIFEST)
        made_from, summary = manifest["made_from"], manifest["summary"]
        return {"made_from": made_from, "summary": summary,
                "licences": {source["path"]: licence(source["path"], resolve) for source in made_from["sources"]}}
    except (UserError, KeyError, TypeError):
        return {}


def licence(source: str, resolve: Callable[[str], Path]) -> str:
    """What a source's folder says of its licence: `license` at the head of its README.md, as on the Hub, else the
    beginning of a file called LICENSE, COPYING or SOURCES; `UNSTATED` if it says nothing."""
    try:
        path = resolve(re.split(r"[*?\[]", source)[0] or ".")
        folder = path if path.is_dir() else resolve(str(path.parent))
        # A link may lead to what nobody allowed, and the card may be published.
        found = sorted(each for each in folder.iterdir()
                       if each.is_file() and not each.is_symlink() and each.stat().st_size <= MOST_BYTES)
        for each in found:
            if each.name.lower() == "readme.md" and (named := _front_matter(each.read_text("utf-8", "replace"))):
                return named
        for each in found:
            if STATED_IN.fullmatch(each.name):
                first = each.read_text("utf-8", "replace").strip().split("\n\n")[0]
                return f"{' '.join(first.split())[:300]} ({each.name})" if first else UNSTATED
    except (UserError, OSError, ValueError):
        pass
    return UNSTATED


def _front_matter(text: str) -> str:
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        values = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return ""
    named = values.get("license_name") or values.get("license") if isinstance(values, dict) else None
    return ", ".join(map(str, named if isinstance(named, list) else [named])) if named else ""


def told(known: Mapping[str, Any]) -> str:
    """The Markdown of what `facts` found; empty if nothing."""
    if not known:
        return ""
    summary, made_from = known["summary"], known["made_from"]
    try:
        steps = summary["steps"]
        read = steps[0]["documents_in"] if steps else summary["documents"]
        parts = [
            f"{summary['documents']:,} documents, {summary['bytes']:,} bytes of text: {summary['train_documents']:,} "
            f"for training, {summary['val_documents']:,} held out. {read:,} documents were read, "
            f"{summary['quarantined']:,} records could not be read.",
            _grid(("source", "files", "bytes", "licence"), [
                # The last part of a path says which text it was; the rest says whose computer it was.
                (PurePath(source["path"]).name, f"{source['files']:,}", f"{source['bytes']:,}",
                 known["licences"].get(source["path"], UNSTATED)) for source in made_from["sources"]]),
            _steps(steps), _leak(summary), _bias(summary.get("bias"))]
    except (KeyError, TypeError, ValueError):
        return ""       # of another version of the studio
    return "\n\n".join(filter(None, parts))


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    if not steps:
        return "Nothing was done to them: the documents are as they were read."
    return "What each step did:\n\n" + _grid(
        ("step", "documents in", "out", "bytes in", "out", "dropped, and why"),
        [(step["step"], *(f"{step[key]:,}" for key in ("documents_in", "documents_out", "bytes_in", "bytes_out")),
          _dropped(step["reasons"])) for step in steps])


def _dropped(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "–"
    most = sorted(reasons.items(), key=lambda pair: -pair[1])
    named = "; ".join(f"{reason} {count:,}" for reason, count in most[:MOST_REASONS])
    more = f"; {len(most) - MOST_REASONS} more reasons" if len(most) > MOST_REASONS else ""
    return f"{sum(reasons.values()):,}: {named}{more}"


def _leak(summary: Mapping[str, Any]) -> str:
    leak = summary.get("leak")
    return (f"{leak['documents']:,} of the {summary['val_documents']:,} held-out documents share at least "
            f"{leak['share']:.0%} of their runs of {leak['bytes']} bytes with training documents.") if leak else ""


def _bias(bias: Mapping[str, Any] | None) -> str:
    if not bias:
        return "Bias was not measured."
    return f"Bias, measured. {NOTE}\n\n" + _grid(
        ("measure", *heads(bias)), [(name, *values) for name, values in rows(bias)])


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"| {' | '.join(map(_safe, head))} |", "|---" * len(head) + "|",
                      *(f"| {' | '.join(map(_safe, row))} |" for row in body)])


def _safe(text: str) -> str:
    """Text that shows as itself, whatever a person or a file named things."""
    return re.sub(r"([\\`*_|\[\]#])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False))
