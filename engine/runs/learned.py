"""Learned: what a finished training teaches the plans of others like it: its speed, pauses, peak memory and power."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from engine import files
from engine.plan import measured, memory, speed
from engine.plan.here import Here, here, precision_of
from engine.plan.measured import Measured
from engine.recipe import Recipe

if TYPE_CHECKING:
    from engine.runs.callbacks import Boundary
    from engine.runs.metrics import Metrics
    from engine.runs.worker import Worker

LEAST_STEPS = 10
RAISED = 1.02  # how much higher the process's peak must be after the training, to be the training's own


class Took:
    """Seconds of what stands between the steps of this process, and how often it came; the power that was drawn."""

    def __init__(self, peak_gib: float) -> None:
        self.peak_before = peak_gib
        self.begun = 0.0
        self._sums: dict[str, tuple[int, float]] = {}

    def begin(self) -> None:
        """The first step comes next."""
        self.begun = time.time()

    @contextmanager
    def of(self, what: str, count: int = 1) -> Iterator[None]:
        """`count` of these are made within."""
        begun = time.perf_counter()
        yield
        self._add(what, count, time.perf_counter() - begun)

    def drew(self, watts: float) -> None:
        self._add("watts", 1, watts)

    def mean(self, what: str) -> float:
        """Of each; 0 if there was none."""
        count, total = self._sums.get(what, (0, 0.0))
        return total / count if count else 0.0

    def _add(self, what: str, count: int, amount: float) -> None:
        before = self._sums.get(what, (0, 0.0))
        self._sums[what] = before[0] + count, before[1] + amount


def keep(worker: Worker, recipe: Recipe, tokens: Path, boundary: Boundary, peak_gib: float) -> None:
    """Remember what a training came to that ended by itself, unless it made too few steps here to tell."""
    took, metrics, position = boundary.took, boundary.metrics, boundary.position
    if metrics.steps < LEAST_STEPS:
        return
    machine, step = here(worker.workspace), metrics.seconds / metrics.steps
    found = Measured(
        step_seconds=step, look_seconds=took.mean("look"), token_seconds=took.mean("token"),
        save_seconds=took.mean("save"), start_seconds=_start(recipe, tokens, worker, took, metrics, step),
        peak_gib=_peak(recipe, machine, position.device, took.peak_before, peak_gib),
        watts=took.mean("watts"), flops=speed.flops(recipe, machine) / step, steps=metrics.steps,
        source=worker.run.name)
    measured.keep(worker.workspace, recipe, found, machine, compiled=position.compiled)


def _start(recipe: Recipe, tokens: Path, worker: Worker, took: Took, metrics: Metrics, step: float) -> float:
    """From the process's start to the first step, with what the first few took longer; 0 where text was made ready
    in between, and where several processes met."""
    made_here = (tokens / files.MANIFEST).stat().st_mtime >= worker.begun
    if made_here or recipe.train.devices not in ("auto", "1") or recipe.train.nodes > 1:
        return 0.0
    slower = max(0.0, metrics.warm_seconds - metrics.warm_steps * step)
    return max(0.0, took.begun - psutil.Process().create_time()) + slower


def _peak(recipe: Recipe, machine: Here, device: str, before: float, after: float) -> float:
    """GiB that the training held, without the copy for a checkpoint; 0 if the process had held as much before it."""
    if after < RAISED * before:
        return 0.0
    if device == "cpu":
        after *= 1 if recipe.train.devices == "auto" else int(recipe.train.devices)  # each holds as much
    estimated = memory.total(recipe, precision_of(recipe, machine), device)
    return after - sum(memory.copied(recipe, estimated, device, machine.memory_bytes).values()) / 2**30
