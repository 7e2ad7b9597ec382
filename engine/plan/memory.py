"""Memory: the most that a training step holds, whether it fits, and what to change where it does not."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from engine.config import UserError
from engine.model import SIZES, estimate
from engine.optim import groups
from engine.recipe import Recipe
from engine.stages import share

PROCESS_BYTES = 0.42 * 2**30  # Python with torch and Lightning, before the first tensor
SAFETY = 0.92                 # of the memory that is there; the rest is for everything else that runs


class Remedy(NamedTuple):
    """One change that makes a recipe smaller: words for a button, and dotted settings with their values."""

    words: str
    changes: dict[str, Any]
    fits: bool


def peak(recipe: Recipe, precision: str, device: str = "cpu", *,
         process_bytes: float = PROCESS_BYTES) -> dict[str, int]:
    """Bytes at the peak of training, by part; their sum is the estimate. `precision` is bf16 or float32.

    Processes that train together on processors share the machine's memory: those of this machine are added up. On GPUs
    it is what one of them holds. FSDP cuts weights, gradients and optimizer over all processes.
    """
    train, size = recipe.train, estimate.parameters(recipe.model)
    here = 1 if train.devices == "auto" else int(train.devices)
    everywhere = here * train.nodes
    rows, _ = share(train.micro_batch_size, train.accumulation, everywhere)
    parts = estimate.training_memory_bytes(
        recipe.model, state_bytes_per_parameter=state_bytes(recipe) / size, micro_batch_size=rows,
        precision=precision, device=device)
    parts.pop("overhead")
    parts["gradients"] = 4 * groups.trained(recipe.optim, recipe.model)
    if train.strategy == "fsdp" and everywhere > 1:
        parts |= {name: parts[name] // everywhere for name in ("weights", "gradients", "optimizer")}
    parts["overhead"] = round(estimate.OVERHEAD * sum(parts.values()))
    copies = here if device == "cpu" else 1
    return {name: copies * count for name, count in {**parts, "process": round(process_bytes)}.items()}


def state_bytes(recipe: Recipe) -> int:
    """What the optimizer keeps of the whole model, with the average of its weights if there is one."""
    return groups.state_bytes(recipe.optim, recipe.model, averaged=recipe.train.ema_decay > 0)


def copy_bytes(recipe: Recipe) -> int:
    """The copy from which a checkpoint is written while training goes on: weights, also those of an average, and
    optimizer state. The last checkpoint is waited for, and needs none."""
    if recipe.train.checkpoint_every >= recipe.train.max_steps:
        return 0
    averages = recipe.train.ema_decay > 0 or recipe.optim.kind == "schedule_free"
    return 4 * estimate.parameters(recipe.model) * (2 if averages else 1) + state_bytes(recipe)


def copied(recipe: Recipe, held: float, device: str, memory_bytes: float) -> dict[str, int]:
    """The copy as a part beside `held` bytes; where it has no room none is made, and a GPU's memory is free of it."""
    copy = copy_bytes(recipe)
    return {"checkpoint": copy} if device == "cpu" and held + copy <= SAFETY * (memory_bytes or math.inf) else {}


def total(recipe: Recipe, precision: str, device: str = "cpu") -> int:
    return sum(peak(recipe, precision, device).values())


def remedies(recipe: Recipe, precision: str, available_bytes: float, device: str = "cpu") -> list[Remedy]:
    """What would make it fit, the change that costs least first; where nothing alone does, what helps all the same."""
    room = available_bytes * SAFETY
    tried = [*_one_process(recipe, device),
             *_smaller_micro_batch(recipe, precision, device, room), *_bf16(recipe, precision),
             *_shorter_context(recipe, precision, device, room), *_smaller_size(recipe, precision, device, room)]
    found = []
    for words, changes in tried:
        try:
            made = recipe.override(*(f"{name}={value}" for name, value in changes.items()))
        except UserError:
            continue
        then = total(made, str(changes.get("train.precision", precision)), device)
        if then < total(recipe, precision, device):
            found.append(Remedy(words, changes, then <= room))
    return [each for each in found if each.fits] or found


def _one_process(recipe: Recipe, device: str) -> list[tuple[str, dict[str, Any]]]:
    """Copies on one processor hold the model several times, and are no faster than its cores."""
    alone = device != "cpu" or recipe.train.devices in ("auto", "1") or recipe.train.nodes > 1
    return [] if alone else [("One process on all cores", {"train.devices": "auto"})]


def _smaller_micro_batch(recipe: Recipe, precision: str, device: str, room: float) -> list[tuple[str, dict[str, Any]]]:
    rows, times, made = recipe.train.micro_batch_size, recipe.train.accumulation, recipe
    while rows > 1 and total(made, precision, device) > room:
        # A divisor keeps the batch as it was; 7 rows become 1.
        less = next(part for part in range(rows // 2, 0, -1) if rows % part == 0)
        rows, times = less, times * (rows // less)
        made = made.override(f"train.micro_batch_size={rows}", f"train.accumulation={times}")
    if rows == recipe.train.micro_batch_size:
        return []
    return [(f"{rows} rows at once, accumulated {times} times",
             {"train.micro_batch_size": rows, "train.accumulation": times})]


def _bf16(recipe: Recipe, precision: str) -> list[tuple[str, dict[str, Any]]]:
    return [("Precision bf16", {"train.precision": "bf16"})] if precision == "float32" else []


def _shorter_context(recipe: Recipe, precision: str, device: str, room: float) -> list[tuple[str, dict[str, Any]]]:
    length, made = recipe.model.context_length, recipe
    while length > 64 and total(made, precision, device) > room:
        length //= 2
        made = made.override(f"model.context_length={length}")
    return [(f"Context of {length:,} tokens", {"model.context_length": length})] if made is not recipe else []


def _smaller_size(recipe: Recipe, precision: str, device: str, room: float) -> list[tuple[str, dict[str, Any]]]:
    """The largest named size that fits, with a context no longer than now."""
    now = estimate.parameters(recipe.model)
    context, family = recipe.model.context_length, recipe.model.family
    smaller = []
    for size in reversed(SIZES):
        changes = {"model": f"{{family: {family}, size: {size}, context_length: {min(context, SIZES[size][4])}}}"}
        try:
            made = recipe.override(*(f"{name}={value}" for name, value in changes.items()))
        except UserError:
            continue
        if estimate.parameters(made.model) < now:
            smaller.append((f"Size {size}", changes))
            if total(made, precision, device) <= room:
                break
    return smaller[-1:]
