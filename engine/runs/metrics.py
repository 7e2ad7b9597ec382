"""Metrics: one row a step, written a few times a second, so that no step waits for the disk or the device."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from engine import files
from engine.runs.folder import Run

if TYPE_CHECKING:
    from engine.stages.base import Step

WRITE_SECONDS = 0.4
WARM = 3  # steps at the start that are slower, and say nothing of the later ones


class Metrics:
    """Holds the rows of the last moments back, and writes them as whole lines.

    Reading a loss waits for the device, so it is read when rows are written, not at each step.
    Tokens per second, and the share of the time spent waiting for batches, are means over the rows written together,
    and leave out what is not training. `fresh` holds the rows made since somebody emptied it, `owed` those that found
    no room on the disk and are written before the next. `steps` and `seconds` add up what was trained and how long that
    took, without the first few steps, whose sums are `warm_steps` and `warm_seconds`.
    """

    def __init__(self, run: Run, tokens: int) -> None:
        self.run = run
        self.speed = self.loss = math.nan  # of the last rows written
        self.fresh: list[dict[str, Any]] = []
        self.owed: list[dict[str, Any]] = []
        self.steps = self.warm_steps = 0
        self.seconds = self.warm_seconds = 0.0
        self._held: list[tuple[Step, float]] = []
        self._waited = 0.0
        self._tokens = tokens
        self._begun = self._due = time.perf_counter()

    def add(self, step: Step) -> bool:
        """Take in the row of a step; True if it is time to write."""
        self._held.append((step, time.time()))
        return time.perf_counter() - self._due >= WRITE_SECONDS

    def waited(self, seconds: float) -> None:
        """The next batch was waited for."""
        self._waited += seconds

    def write(self) -> int | None:
        """Write the rows held. Returns the number of a step whose loss or gradient was not finite, if there is one."""
        import torch

        if not self._held:
            return None
        steps = [step for step, _ in self._held]
        losses = torch.stack([step.loss for step in steps]).tolist()
        norms = torch.stack([step.grad_norm for step in steps]).tolist()
        self._due = time.perf_counter()
        self.speed = (steps[-1].tokens - self._tokens) / max(1e-9, self._due - self._begun)
        self._count(len(steps), self._due - self._begun)
        share = min(1.0, self._waited / max(1e-9, self._due - self._begun))
        rows: list[dict[str, Any]] = []
        for (step, moment), loss, norm in zip(self._held, losses, norms, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._put(rows)
                return step.number
            rows.append({"step": step.number, "time": moment, "tokens": step.tokens, "train/loss": loss,
                         "train/lr": step.lr, "train/grad_norm": norm, "speed/tokens_per_second": self.speed,
                         "speed/data_wait": share, **({"train/skipped": 1} if step.skipped else {})})
            self.loss = loss
        self._put(rows)
        return None

    def _count(self, steps: int, seconds: float) -> None:
        if self.warm_steps < WARM:
            self.warm_steps, self.warm_seconds = self.warm_steps + steps, self.warm_seconds + seconds
        else:
            self.steps, self.seconds = self.steps + steps, self.seconds + seconds

    def go_on(self) -> None:
        """What took place since the last `write` was no training; count from now on."""
        self._begun, self._waited = time.perf_counter(), 0.0

    def row(self, **facts: Any) -> None:
        """Write one row of something else, such as a validation."""
        self._write([facts])

    def _put(self, rows: list[dict[str, Any]]) -> None:
        self._write(rows)
        self._tokens, self._begun = self._held[-1][0].tokens, self._due
        self._held, self._waited = [], 0.0

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.owed += rows
        self.fresh += rows
        try:
            self.run.append("metrics", *self.owed)
            self.owed = []
        except OSError as problem:  # a full disk must not end a training that can still save itself
            print(f"metrics not written: {problem}", flush=True)


def cut(run: Run, step: int) -> None:
    """Drop what tells of the steps after `step`, which the resumed run makes anew: rows of metrics, samples and
    checkpoints. Each file is replaced at once."""
    for name, made_anew in (("metrics", None), ("events", ("sample", "checkpoint"))):
        rows, _ = run.rows(name)
        kept = [row for row in rows
                if row.get("step", 0) <= step or (made_anew and row.get("kind") not in made_anew)]
        if len(kept) < len(rows):
            files.write(run.path / f"{name}.jsonl",
                        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
