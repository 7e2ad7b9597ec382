"""Probe: a few real steps of a recipe in a process of its own, on random tokens, timed and weighed for the plan.

Rows are full, as packed rows always are, so no later batch is larger. No text is needed: what a step costs does not
depend on what it says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil
import torch
from safetensors.torch import save_file

from engine import hardware
from engine.model import estimate
from engine.model.generate import generate
from engine.plan import measured, memory, prices
from engine.plan.here import here
from engine.plan.measured import Measured
from engine.recipe import Recipe
from engine.runs.callbacks import Timing, peak_gib
from engine.runs.checkpoint import Position
from engine.runs.compiling import settle_compile
from engine.runs.energy import Meter
from engine.runs.trainer import built, fit, settle
from engine.tokens.batches import Rows

if TYPE_CHECKING:
    from engine.runs.worker import Worker

STEPS = 20       # at most
SECONDS = 30.0   # after which no further step is begun, once a few are measured
TOKENS = 8       # of a sample


class Random:
    """Endless rows of random tokens, each batch (B, T+1), or Rows where documents are masked."""

    def __init__(self, recipe: Recipe) -> None:
        shape = (recipe.train.micro_batch_size, recipe.model.context_length + 1)
        rows = torch.randint(recipe.model.vocab_size, shape, generator=torch.Generator().manual_seed(0))
        self.batch = Rows.masked(rows, 0) if recipe.tokens.document_mask else rows

    def __len__(self) -> int:
        return 1 << 40

    def __iter__(self) -> Iterator[torch.Tensor | Rows]:
        while True:
            yield self.batch


def probe(worker: Worker, recipe: Recipe) -> Measured:
    """Train for up to 20 steps, keep nothing but the figures, in the workspace, for plans of the same shape."""
    machine = here(worker.workspace)
    hardware.keep_freed_memory()
    short = recipe.override(f"train.max_steps={STEPS}")
    position = settle(worker, short, Position())
    stage = short.stage.module()(built(short, position), short.stage, short.train, short.optim, short.schedule,
                                 short.seed)
    meter = Meter(position.device, prices.load(worker.workspace))
    data = Random(short)
    position = settle_compile(worker, recipe, position, stage, data.batch)  # as a run of so many steps will
    timing = Timing(worker, stage, data.batch, STEPS, SECONDS)
    fit(worker, short, position, stage, data, timing)
    row = meter.read(stage.steps, stage.tokens, float("nan"))
    step, look = timing.step_seconds, timing.look_seconds
    found = Measured(
        step_seconds=step, look_seconds=look, token_seconds=_token_seconds(stage.model),
        save_seconds=_save_seconds(worker, stage.model, memory.state_bytes(short)),
        start_seconds=max(0.0, timing.warm_at - psutil.Process().create_time() - timing.WARM * step),
        peak_gib=peak_gib(stage.device), watts=row["energy/watts"],
        flops=estimate.flops_per_token(recipe.model) * recipe.tokens_per_step / step, steps=timing.counted,
        source=worker.run.name)
    alone = recipe.override("train.devices=1", "train.nodes=1", "train.strategy=auto")  # which is what was measured
    measured.keep(worker.workspace, alone, found, machine, compiled=position.compiled)
    worker.run.event("measured", **found._asdict())
    print(f"{found.steps} steps measured: {step:.3g} s a step, {found.peak_gib:.2f} GiB at the peak", flush=True)
    return found


def _token_seconds(model: Any) -> float:
    """One token of a sample; the first call warms up."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    for count in (1, TOKENS):
        begun = time.perf_counter()
        generate(model, ids, count, generator=torch.Generator().manual_seed(0), end=-1)
        took = time.perf_counter() - begun
    return took / TOKENS


def _save_seconds(worker: Worker, model: torch.nn.Module, state_bytes: float) -> float:
    """What a checkpoint will take, with so much optimizer state, from writing the weights once."""
    path = worker.run.path / "probe.safetensors"
    begun = time.perf_counter()
    save_file({name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}, path)
    took = time.perf_counter() - begun
    path.unlink()
    weights = 4 * sum(p.numel() for p in model.parameters())
    return took * (weights + state_bytes) / weights
