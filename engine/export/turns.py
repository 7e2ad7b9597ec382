"""Turns: contenders in processes of their own, each kept ready and asked for one text after the other.

The best of the turns counts: what else the machine does can only make one slower, and a busy moment falls on all.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.inference.speed import Turn, best
from engine.progress import Progress, silent

SCRIPT = Path(__file__).with_name("contenders.py")
PROJECT = Path(__file__).resolve().parents[2]
LONGEST_SECONDS = 900       # for one answer; a compiled model takes minutes for its first
LIBRARIES_BYTES = 400 << 20  # of a process with PyTorch, without a model


class Failed(Exception):
    """A contender cannot do its part; why, in a sentence."""


@dataclass(frozen=True)
class Contender:
    """One way of running a model: a kind of `contenders`, and what it opens."""

    name: str
    kind: str
    path: Path
    option: str = ""
    precision: str = "float32"
    size_bytes: int = 0         # of its weights in files
    read_bytes: int = 0         # of weights, for each new token
    python: str = sys.executable
    refused: str = ""           # why it cannot take part


@dataclass(frozen=True)
class Lengths:
    """What each contender reads and writes."""

    prompt_tokens: int
    new_tokens: int
    vocab_size: int


class Process:
    """A contender at work. Its answers are waited for with `heed` called meanwhile, which may raise to end it all."""

    def __init__(self, contender: Contender, lengths: Lengths, heed: Callable[[], None]) -> None:
        self._heed, self._said = heed, tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        # Trainings are launched with threads that sleep while they wait, for others' sake; here nobody runs beside it.
        environment.pop("OMP_WAIT_POLICY", None)
        if contender.python == sys.executable:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [contender.python, "-P", str(SCRIPT), contender.kind, str(contender.path), str(lengths.prompt_tokens),
             str(lengths.new_tokens), str(lengths.vocab_size), contender.option],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment)
        self.peak_bytes = 0
        try:
            self.load_seconds: float = self._answer()["load_seconds"]
        except BaseException:
            self.close()
            raise

    def turn(self) -> Turn:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        told = self._answer()
        self.peak_bytes = max(self.peak_bytes, told["peak_bytes"])
        return Turn(told["first"], told["rest"], told["tokens"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()

    def _answer(self) -> dict[str, Any]:
        stream, until = self._process.stdout, time.monotonic() + LONGEST_SECONDS
        assert stream is not None
        while not select.select([stream], [], [], 0.5)[0]:
            self._heed()
            if time.monotonic() > until:
                raise Failed(f"it gave no answer within {LONGEST_SECONDS} seconds.")
        line = stream.readline()
        if not line:
            raise Failed(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"its process was ended by signal {-code}, as it happens when memory runs out."
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip().removeprefix("engine.config.UserError: ")[:300] if lines else \
            f"its process ended with code {code}."


def measure(contenders: Sequence[Contender], lengths: Lengths, rounds: int,
            progress: Progress = silent) -> list[dict[str, Any]]:
    """One row for each contender, in their order.

        name, kind, precision, size_bytes, read_bytes
        prefill_tokens_per_second, tokens_per_second, first_token_seconds       the best of the rounds
        first_after_loading_seconds     the first token of the first text, which finds nothing warm
        load_seconds                    opening the model, the libraries being imported; the best
        peak_bytes                      most memory of the process, libraries and mapped files included
        greedy_tokens_equal             how many tokens it writes as the first contender does, until they part; None
                                        where it does not say which it wrote
        failed                          "", or why the others are missing

    All stay loaded where memory has room for that; otherwise each is opened anew in every round. Raises what
    `progress` raises, with no process left.
    """
    rows: list[dict[str, Any]] = [{"name": c.name, "kind": c.kind, "precision": c.precision, "failed": c.refused,
                                   "size_bytes": c.size_bytes, "read_bytes": c.read_bytes} for c in contenders]
    turns: list[list[Turn]] = [[] for _ in contenders]
    loads: list[list[float]] = [[] for _ in contenders]
    all_bytes = sum(LIBRARIES_BYTES + 2 * contender.size_bytes for contender in contenders)
    together = all_bytes < psutil.virtual_memory().available / 2
    open_ones: dict[int, Process] = {}
    with ExitStack() as stack:
        for count in range(rounds):
            for place, contender in enumerate(contenders):
                told = count * len(contenders) + place, rounds * len(contenders), contender.name
                progress(*told)
                if rows[place]["failed"]:
                    continue
                try:
                    if place not in open_ones:
                        process = Process(contender, lengths, lambda told=told: progress(*told))
                        stack.callback(process.close)
                        open_ones[place] = process
                        loads[place].append(process.load_seconds)
                        first = process.turn().first
                        rows[place].setdefault("first_after_loading_seconds", first)
                    turns[place].append(open_ones[place].turn())
                    rows[place]["peak_bytes"] = open_ones[place].peak_bytes
                except Failed as reason:
                    rows[place]["failed"] = str(reason)
                if not together and place in open_ones:
                    open_ones.pop(place).close()
    for row, made, loaded in zip(rows, turns, loads, strict=True):
        if not row["failed"]:
            row |= best(made, lengths.prompt_tokens, lengths.new_tokens)
            row["load_seconds"] = min(loaded)
            wanted, given = (turns[0][-1].tokens if turns[0] else []), made[-1].tokens
            row["greedy_tokens_equal"] = _alike(wanted, given) if wanted and given else None
    progress(rounds * len(contenders), rounds * len(contenders), "")
    return rows


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    return next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
                min(len(one), len(other)))
