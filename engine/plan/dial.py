"""One dial: from an amount of time or money and a text to size, batch, steps and learning rate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from engine.config import UserError
from engine.model import SIZES, estimate
from engine.plan import memory, scaling
from engine.plan.here import Here, precision_of, rented
from engine.plan.outline import Plan, outline
from engine.plan.prices import Machine, Prices
from engine.plan.scaling import Seen
from engine.recipe import Recipe
from engine.workspace import Workspace

LEAST_STEPS = 100
MOST_ROWS = 64


class Proposal(NamedTuple):
    """The settings that the dial would make, the plan of the recipe with them, and why this size."""

    changes: dict[str, Any]
    recipe: Recipe
    plan: Plan
    considered: list[tuple[str, float, float]]  # size, tokens, loss: all that fits, the one that was taken among them


def propose(recipe: Recipe, workspace: Workspace, *, hours: float = 0.0, money: float = 0.0,
            figures: Prices, machine: Here, seen: list[Seen] | None = None, rent: Machine | None = None,
            devices: int = 1) -> Proposal:
    """The recipe that reaches the lowest predicted loss within `hours` and `money` (0: no limit of that kind).

    On `machine`, where money is spent on electricity; or on so many `devices` of a machine that one pays `rent` for.
    Every named size that fits the memory is reckoned through with the steps that time and money leave it, batch and
    step size by the step law (Li et al. 2025). Raises UserError if neither limit is given, or if not even the
    smallest size makes 100 steps.
    """
    for name, amount in (("hours", hours), ("money", money)):
        if not 0 <= amount < math.inf:
            raise UserError(f"{name} is {amount:g}; it must be a number from 0 on.", where=name)
    if hours <= 0 and money <= 0:
        raise UserError("Say how many hours or how much money there are; both are 0.", where="hours")
    machine = rented(rent, devices) if rent else machine
    best: Proposal | None = None
    considered = []
    for size in SIZES:
        try:
            made = _within(recipe, workspace, size, hours, money, figures, machine, seen, rent)
        except UserError:
            continue
        if made is None:
            break  # larger ones have still less room or time
        assert made.plan.prediction is not None
        considered.append((size, float(made.plan.tokens), made.plan.prediction.loss))
        if best is None or best.plan.prediction is None or made.plan.prediction.loss < best.plan.prediction.loss:
            best = made
    if best is None:
        raise UserError(f"Not even the smallest size makes {LEAST_STEPS} steps in that; give it more time or money.",
                        where="hours")
    return best._replace(considered=considered)


def _within(recipe: Recipe, workspace: Workspace, size: str, hours: float, money: float, figures: Prices,
            machine: Here, seen: list[Seen] | None, rent: Machine | None) -> Proposal | None:
    """One size with as many steps as there is time and money for; None if it does not fit or gets too few."""
    context = min(SIZES[size][4], 256) if machine.device == "cpu" else SIZES[size][4]
    shape = {"model": f"{{family: {recipe.model.family}, size: {size}, context_length: {context}}}",
             "train.devices": "auto", "train.nodes": 1}  # this machine, and any number of rows
    made, changes = _apply(recipe, {**shape, "train.accumulation": 1, "train.micro_batch_size": 1}), dict(shape)
    tokens = 1e6
    for attempt in range(7):  # batch, speed and tokens depend on one another; a few rounds settle them
        if attempt < 6:
            changes = {**shape, **_steps(made, tokens, context, machine)}
        else:  # the batch stays; a step of few rows would go to and fro between two of them
            changes |= _length(made, max(LEAST_STEPS, int(tokens / made.tokens_per_step)))
        made = _apply(recipe, changes)
        plan = outline(made, workspace, figures=figures, machine=machine, seen=seen, rent=rent)
        allowed = min(hours * 3600 if hours > 0 else float("inf"),
                      plan.wall_seconds * money / plan.cost if money > 0 and plan.cost else float("inf"))
        fixed = plan.wall_seconds - plan.seconds["steps"]  # of looks and checkpoints there are as many in any run
        if allowed <= fixed:
            return None
        tokens = plan.tokens * (allowed - fixed) / max(1e-9, plan.seconds["steps"])
    if made.train.max_steps <= LEAST_STEPS:
        return None
    if not plan.fits:
        return None
    return Proposal(changes, made, plan, [])


def _steps(made: Recipe, tokens: float, context: int, machine: Here) -> dict[str, Any]:
    """Batch, steps and rate for so many tokens; the looks keep to a twentieth or so of the steps."""
    rows = max(1, round(scaling.batch_tokens(tokens) / context / machine.gpus))  # on each device
    at_once = min(rows, MOST_ROWS)
    precision = precision_of(made, machine)
    room = machine.memory_bytes * memory.SAFETY
    while at_once > 1 and room and memory.total(
            _apply(made, {"train.micro_batch_size": at_once}), precision, machine.device) > room:
        at_once = at_once // 2
    times = max(1, round(rows / at_once))
    times *= machine.gpus
    steps = max(LEAST_STEPS, int(tokens / (at_once * times * context)))
    rate = scaling.learning_rate(estimate.non_embedding_parameters(made.model), tokens)
    return {"train.micro_batch_size": at_once, "train.accumulation": times, "optim.kind": "adamw",
            "optim.lr": float(f"{rate:.2g}"), **_length(made, steps)}


def _length(made: Recipe, steps: int) -> dict[str, Any]:
    """So many steps, and a look at every tenth of them."""
    every = max(1, steps // 10)
    return {"train.max_steps": steps, "schedule.warmup_steps": max(1, steps // 20), "train.validate_every": every,
            "train.checkpoint_every": 2 * every, "train.sample_every": 2 * every if made.train.sample_every else 0}


def _apply(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    return recipe.override(*(f"{name}={value}" for name, value in changes.items()))
