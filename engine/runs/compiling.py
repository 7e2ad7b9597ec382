"""Compiling: whether `torch.compile` repays itself in a run, found out on the run's own model and first batch.

Measured: 12 to 40 seconds to compile, 3 to 20 % of each step saved. So a short run is not compiled at all, and a long
one is compiled, timed both ways in turns, and keeps what is faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from engine.model.operators import Operators, use
from engine.plan.measured import COMPILE_SECONDS, MOST_SAVED
from engine.recipe import Recipe
from engine.runs.checkpoint import Position
from engine.stages.base import Stage

if TYPE_CHECKING:
    from engine.runs.worker import Worker

WORTH_IT = 0.98          # of the time of a step without
TRIES = 3                # of each, in turns; the median counts


def settle_compile(worker: Worker, recipe: Recipe, position: Position, stage: Stage, batch: Any) -> Position:
    """Compile the stage's model or leave it; a run that goes on keeps what it began with.

    `batch` is one micro-batch. No weight moves, and nothing random is drawn that a step would draw. Where compiling
    fails, training goes on without and the timeline says so.
    """
    train, begun = recipe.train, position.step > 0
    wanted = position.compiled if begun else train.compile != "off"
    if not wanted:
        return _told(worker, stage, position, False, "as when the run began" if begun else "as asked")
    trial = _Trial(stage, batch, position)
    if not begun and train.compile == "auto":
        rest = trial.seconds() * train.accumulation * train.max_steps
        if rest * MOST_SAVED < COMPILE_SECONDS:
            return _told(worker, stage, position, False,
                         f"{train.max_steps:,} steps will take about {_duration(rest)}, of which it could save "
                         f"{_duration(rest * MOST_SAVED)}, and compiling takes about as long or longer")
    use(stage.model, _operators(position, True))
    _look_up_apart(stage.model)
    eager, stage.compiled = stage.compiled, torch.compile(stage.model.hidden, dynamic=False)
    worker.tell(position.step, train.max_steps, "compiling the model")
    took = time.perf_counter()
    try:
        trial.once()
    except Exception as problem:  # whatever the compiler, or the C++ compiler behind it, stumbles over
        stage.compiled = eager
        first = str(problem).strip().splitlines() or [type(problem).__name__]
        worker.run.event("warning", sentence="torch.compile does not work here, so training goes on without it"
                         f"{', and its numbers may differ in the last digits' if begun else ''}: {first[0][:200]}")
        return _told(worker, stage, position, False, "compiling failed")
    took = time.perf_counter() - took
    if begun:
        return _told(worker, stage, position, True, "as when the run began")
    if train.compile == "on":
        return _told(worker, stage, position, True, f"as asked; compiling took {_duration(took)}")
    before, after = trial.compare(stage.compiled)
    told = (f"compiling took {_duration(took)}; a micro-batch takes {after:.3g} s compiled and {before:.3g} s without")
    if after > WORTH_IT * before:
        return _told(worker, stage, position, False, told)
    steps = took / (before - after) / train.accumulation
    return _told(worker, stage, position, True, f"{told}, so that it is repaid after {steps:,.0f} steps of "
                                                f"{train.max_steps:,}")


def _told(worker: Worker, stage: Stage, position: Position, compiled: bool, why: str) -> Position:
    """The position with this settled, the model's operators to match, and the reason in the timeline."""
    if not compiled:
        stage.compiled = None
        for each in _lookups(stage.model):
            each.__dict__.pop("forward", None)
    use(stage.model, _operators(position, compiled))
    worker.resolved(setting="train.compile", value="on" if compiled else "off", why=why)
    return replace(position, compiled=compiled)


def _look_up_apart(model: nn.Module) -> None:
    """Leave embeddings to torch. Inductor adds up their gradients by atomic additions of several threads, each time in
    another order: no two runs would have the same bits, nor a resumed one those of the run that went through."""
    for each in _lookups(model):
        each.forward = torch.compiler.disable(each.forward)  # type: ignore[method-assign]


def _lookups(model: nn.Module) -> list[nn.Embedding]:
    return [each for each in model.modules() if isinstance(each, nn.Embedding)]


def _operators(position: Position, compiled: bool) -> Operators:
    """torch.compile fuses norms and rotation by itself, with what stands around them."""
    return Operators(position.queries_at_once, position.fused and not compiled)


class _Trial:
    """Forward and back on one micro-batch, timed; the gradients are thrown away."""

    def __init__(self, stage: Stage, batch: Any, position: Position) -> None:
        self.stage, self.batch = stage.to(position.device), batch.to(position.device)
        self.position, self.device = position, position.device
        stage.train()

    def once(self) -> float:
        """Seconds of one."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.position.matmul_precision)
        begun = time.perf_counter()
        try:
            with torch.random.fork_rng():
                with torch.autocast(self.device, torch.bfloat16, enabled=self.position.precision == "bf16"):
                    loss, _ = self.stage.loss(self.batch)
                loss.backward()
            if self.device == "cuda":
                torch.cuda.synchronize()
        finally:
            self.stage.zero_grad(set_to_none=True)
            torch.set_float32_matmul_precision(before)
        return time.perf_counter() - begun

    def seconds(self) -> float:
        """Seconds of one, once it is warm."""
        self.once()
        return min(self.once() for _ in range(2))

    def compare(self, compiled: Callable[..., Any]) -> tuple[float, float]:
        """Medians (without, compiled)."""
        took: dict[bool, list[float]] = {False: [], True: []}
        for attempt in range(TRIES + 1):
            for way in (False, True):
                self.stage.compiled = compiled if way else None
                use(self.stage.model, _operators(self.position, way))
                seconds = self.once()
                if attempt:  # the first warms up
                    took[way].append(seconds)
        return statistics.median(took[False]), statistics.median(took[True])


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.2g} seconds" if seconds < 10 else (
        f"{seconds:.0f} seconds")
