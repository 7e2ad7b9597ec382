"""Dispatch: a training is given to the processes that do it: this one, ranks on this machine, on Ray, or those that
torchrun or SLURM started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine import hardware
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import cluster, spread
from engine.runs.spread import Spread

if TYPE_CHECKING:
    from engine.runs.worker import Worker

LOST = ("Another process of this training died or cannot be reached any more. Resume the run, and it goes on from its "
        "last checkpoint.")


def train(worker: Worker, recipe: Recipe, tokens: Path) -> Path:
    """Train the recipe in as many processes as it says; returns the best checkpoint. Raises as `trainer.train`."""
    from engine.runs import trainer

    device = hardware.choose_device(recipe.train.device)
    gpus = tuple(each["memory_bytes"] for each in hardware.devices() if each["device"] != "cpu")
    place = worker.place
    if place.size == 1 and recipe.train.launcher == "ray":
        from engine.runs import on_ray

        return on_ray.train(worker, recipe, tokens, spread.spread(recipe, device, gpus))
    how = spread.spread(recipe, device, gpus, place)
    if how.processes == 1:
        return trainer.train(worker, recipe, tokens)
    if place.size == 1 and how.nodes > 1:
        raise UserError(f"train.nodes is {how.nodes}, and one machine cannot start the others' processes; start them "
                        f"with torchrun or SLURM (studio torchrun {worker.run.name} shows how).", where="train.nodes")
    if place.size == 1:
        from engine.runs import local

        return local.train(worker, recipe, tokens, how)
    worker.store.set(spread.TASK, spread.told(recipe, tokens, how))
    try:
        return take_part(worker, recipe, tokens, how)
    except Exception as problem:
        if cluster.lost(problem):
            raise cluster.Lost(LOST, where=worker.run.name) from problem
        raise


def take_part(worker: Worker, recipe: Recipe, tokens: Path, how: Spread) -> Path:
    """Train as one rank of several: the others do the same."""
    from engine.runs import trainer
    from engine.stages.ranks import Ranks

    cluster.join(worker.store, worker.place, hardware.choose_device(recipe.train.device))
    try:
        return trainer.train(worker, recipe, tokens, how, Ranks.joined())
    finally:
        cluster.leave()
