"""Spread: over how many processes a training goes, and how the model and the rows of a step are shared among them.

The rows of a step stay what the recipe says (micro_batch_size times accumulation), however many processes there are:
each takes its even share of them, as few at a time as makes no more than micro_batch_size rows at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from engine.config import UserError
from engine.plan import memory
from engine.recipe import Recipe
from engine.runs import cluster
from engine.runs.cluster import Place
from engine.runs.folder import Run
from engine.stages import share, uneven

WHOLE = ("adafactor",)  # optimizers whose update torch 2.13 cannot make on parts of a matrix
TASK, END = "task", "end"  # what the first rank tells the others through the store


class Spread(NamedTuple):
    """How one training is spread. The batch is that of one process."""

    strategy: str           # single, ddp or fsdp
    devices: int            # processes on each machine
    nodes: int
    micro_batch_size: int
    accumulation: int
    why: str

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    @property
    def words(self) -> str:
        if self.processes == 1:
            return "one process"
        machines = f" on each of {self.nodes} machines" if self.nodes > 1 else ""
        return f"{self.strategy}, {self.devices} {'process' if self.devices == 1 else 'processes'}{machines}"


def spread(recipe: Recipe, device: str, gpu_bytes: tuple[int, ...] = (), place: Place = cluster.ALONE) -> Spread:
    """Decide it. `gpu_bytes`: the memory of each GPU of this machine; `place`: where others started the processes.

    Raises UserError where the rows of a step cannot be shared out, and where there are fewer GPUs than asked for.
    """
    train = recipe.train
    if place.size > 1:
        devices, nodes, why = place.local_size, place.nodes, f"as {place.launcher} started them"
    elif train.devices == "auto":
        devices, nodes = max(1, len(gpu_bytes)) if device == "cuda" else 1, train.nodes
        why = f"{len(gpu_bytes)} GPUs are here" if devices > 1 else "one GPU is here" if device == "cuda" else (
            "on a processor one process uses all cores")
        while devices > 1 and uneven(train.micro_batch_size, train.accumulation, devices * nodes):
            devices -= 1
            why = f"of {len(gpu_bytes)} GPUs so many share the rows of a step evenly"
        if train.strategy == "single":
            devices, why = 1, "as asked"
    else:
        devices, nodes, why = int(train.devices), train.nodes, "as asked"
        if device == "cuda" and devices > max(1, len(gpu_bytes)) and nodes == 1 and train.launcher == "local":
            raise UserError(f"train.devices is {devices}, but {len(gpu_bytes)} GPUs are here; choose auto or "
                            f"{len(gpu_bytes)}.", where="train.devices")
    processes = devices * nodes
    if sentence := uneven(train.micro_batch_size, train.accumulation, processes):
        raise UserError(f"train.devices {sentence}.", where="train.devices")
    rows, times = share(train.micro_batch_size, train.accumulation, processes)
    strategy, how = _strategy(recipe, rows, processes, min(gpu_bytes, default=0))
    return Spread(strategy, devices, nodes, rows, times, f"{why}; {how}" if how else why)


def _strategy(recipe: Recipe, rows: int, processes: int, gpu_bytes: int) -> tuple[str, str]:
    """(strategy, why). A copy of the whole model needs less traffic, so it is taken where it fits."""
    asked = recipe.train.strategy
    if processes == 1:
        return "single", "one process needs no strategy" if asked in ("ddp", "fsdp") else ""
    if recipe.optim.kind in WHOLE:
        if asked == "fsdp":
            raise UserError(f"train.strategy is fsdp, which cuts every matrix, and {recipe.optim.kind} needs them "
                            "whole; choose ddp, or another optimizer such as adamw.", where="train.strategy")
        return "ddp", f"{recipe.optim.kind} needs whole matrices"
    if asked in ("ddp", "fsdp"):
        return asked, ""
    if gpu_bytes:
        copy = recipe.override(f"train.micro_batch_size={rows}", "train.accumulation=1", "train.devices=auto")
        needs = memory.total(copy, "float32" if recipe.train.precision == "float32" else "bf16", "cuda")
        if needs > memory.SAFETY * gpu_bytes:
            return "fsdp", (f"a copy of the model needs about {needs / 2**30:.1f} GiB in training and a GPU has "
                            f"{gpu_bytes / 2**30:.1f}")
        return "ddp", "a copy of the model fits each GPU"
    return "ddp", ""


# What ranks are told, and how they end ------------------------------------------------------------


def told(recipe: Recipe, tokens: Path, how: Spread) -> str:
    """A training, to be sent to a rank."""
    return json.dumps([recipe.to_yaml(), str(tokens), how])


def heard(text: str | bytes) -> tuple[Recipe, Path, Spread]:
    recipe, tokens, how = json.loads(text)
    return Recipe.from_yaml(recipe), Path(tokens), Spread(*how)


def failure(problem: BaseException) -> dict[str, Any]:
    """How a rank's training ended, for the process that does the run's jobs: see `fate`."""
    from engine.progress import Stopped

    if isinstance(problem, Stopped):
        return {"stopped": True}
    if isinstance(problem, UserError):
        return {"error": problem.sentence, "where": problem.where}
    if isinstance(problem, MemoryError):
        return {"memory": True}
    return {"failed": f"{type(problem).__name__}: {problem}"}


def goes_on(run: Run) -> str:
    """From where a resume would go on, inside a sentence."""
    kept = run.checkpoints
    return f"it goes on from {kept[-1].name}" if kept else "it has saved nothing yet, so it begins anew"


def fate(outcome: dict[str, Any]) -> Path:
    """The checkpoint that a training ended in, or what it raised."""
    from engine.progress import Stopped

    if "checkpoint" in outcome:
        return Path(outcome["checkpoint"])
    if "stopped" in outcome:
        raise Stopped
    if "memory" in outcome:
        raise MemoryError
    raise UserError(outcome.get("error") or f"{outcome['failed']}. The log has the details.", outcome.get("where", ""))
