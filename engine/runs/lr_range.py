"""The learning-rate range test as a job: a short training in which the rate rises until the loss does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine import hardware
from engine.optim.lr_range import Curve
from engine.recipe import Recipe
from engine.runs.checkpoint import Position
from engine.runs.metrics import cut
from engine.runs.trainer import Ranging, built, fit, settle
from engine.stages.base import Step
from engine.tokens.batches import TokenData

if TYPE_CHECKING:
    from engine.runs.worker import Worker


def lr_range(worker: Worker, recipe: Recipe, tokens: Path) -> Curve:
    """Train anew with the recipe's model, optimizer and batches, and tell in an event what rate to take.

    No weights are kept. Raises Stopped when a viewer asked for a stop.
    """
    run, test = worker.run, recipe.lr_range
    cut(run, 0)
    hardware.keep_freed_memory()
    position = settle(worker, recipe, Position())
    train = recipe.train.replace(max_steps=test.num_steps, ema_decay=0.0, skip_spikes=False)
    stage = recipe.stage.module()(built(recipe, position), recipe.stage, train, recipe.optim.replace(lr=test.highest),
                                  test, recipe.seed)
    data = TokenData(tokens, recipe.model.context_length, train.micro_batch_size, recipe.seed, first_batch=0,
                     validation_batches=1, packing=recipe.tokens.packing, document_mask=recipe.tokens.document_mask)
    curve = Curve()

    def take(step: Step) -> bool:
        loss = float(step.loss)
        over = curve.add(step.lr, loss)
        run.append("metrics", {"step": step.number, "time": time.time(), "tokens": step.tokens, "train/loss": loss,
                               "train/lr": step.lr, "train/grad_norm": float(step.grad_norm)})
        worker.progress(step.number, test.num_steps, f"loss {loss:.3f} at learning rate {step.lr:.2g}")
        return over

    fit(worker, recipe.replace(train=train), position, stage, data, Ranging(stage, take))
    worker.tell(test.num_steps, test.num_steps)
    run.event("advice", what="lr_range", step=len(curve.rates), sentence=curve.sentence(),
              suggestion=curve.suggestion())
    return curve
