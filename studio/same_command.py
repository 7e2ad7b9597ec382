"""Same command: what the Test page does, as a line for the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from engine.runs.sources import Source


def scoring(source: Source, texts: Sequence[str]) -> str:
    """`studio score` of a bundle; empty for a checkpoint, which it does not take."""
    if source.checkpoint:
        return ""
    name, given = shlex.quote(source.folder.name), " ".join(map(shlex.quote, texts))
    if any(text.startswith("-") for text in texts):
        return f"studio score{_graph(source)} -- {name} {given}"
    return f"studio score {name} {given}{_graph(source)}"


def continuing(source: Source, prompt: str, beside: str, sampling: Mapping[str, Any], seed: str) -> str:
    """`studio generate`; `beside` is the label of another source, or empty."""
    other = f" --beside {shlex.quote(beside)}" if beside else ""
    if prompt.startswith("-"):      # behind --, where nothing is an option
        return f"studio generate{other}{_how(source, sampling, seed)} -- {_name(source)} {shlex.quote(prompt)}"
    return f"studio generate {_name(source)} {shlex.quote(prompt)}{other}{_how(source, sampling, seed)}"


def prompts(source: Source, file: str, sampling: Mapping[str, Any], seed: str) -> str:
    """`studio generate` of a set; `file` is empty while the prompts are typed."""
    where = shlex.quote(file) if file else "FILE"
    return f"studio generate {_name(source)} --prompts {where} --report report.md{_how(source, sampling, seed)}"


def conversing(source: Source, system: str, sampling: Mapping[str, Any], seed: str) -> str:
    """`studio chat`."""
    before = f" --system={shlex.quote(system)}" if system else ""
    return f"studio chat {_name(source)}{before}{_how(source, sampling, seed)}"


def _name(source: Source) -> str:
    folder = source.folder
    return shlex.quote(f"{folder.parts[-3]}/{folder.name}" if source.checkpoint else folder.name)


def _graph(source: Source) -> str:
    precision = "" if source.precision == "float32" else f" --precision {source.precision}"
    return precision + (" --adapter" if source.adapter else "")


def _how(source: Source, sampling: Mapping[str, Any], seed: str) -> str:
    return (f" --temperature {sampling['temperature']:g} --top-p {sampling['top_p']:g} --top-k {sampling['top_k']} "
            f"--max-new-tokens {sampling['max_new_tokens']}" + (f" --seed {shlex.quote(seed)}" if seed else "")
            + "".join(f" --stop={shlex.quote(text)}" for text in sampling["stop"]) + _graph(source))
