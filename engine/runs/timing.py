"""Timing: the benchmark of a bundle as a run, from the command line or a page, and its job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine import hardware, runs
from engine.config import UserError
from engine.export.benchmark import RESULT, BenchmarkConfig
from engine.recipe import Recipe
from engine.runs.folder import Run
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.runs.worker import Worker

ENDING = "-benchmark"       # of the names of such runs
MACHINE = ("system", "processor", "cores", "memory_gib", "packages")


def asking(bundle: str, config: BenchmarkConfig | None = None) -> Recipe:
    """The recipe of a run that times a bundle."""
    asked = (config or BenchmarkConfig()).replace(bundle=bundle)
    return Recipe().replace(name=f"{bundle[:80 - len(ENDING)]}{ENDING}", jobs=["benchmark"], benchmark=asked.dump())


def takes_benchmark(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", metavar="BUNDLE", help="the name of a bundle")
    command.add_argument("changes", metavar="SETTING=VALUE", nargs="*",
                         help="settings to change: benchmark.prompt_tokens, benchmark.new_tokens, benchmark.rounds")
    command.add_argument("--detach", action="store_true", help="start in the background and return")


def begin(arguments: argparse.Namespace) -> tuple[Run, Workspace]:
    """Start the run that a command asks for."""
    workspace = Workspace(arguments.workspace)
    bundle = workspace.find("bundles", arguments.bundle)
    recipe = asking(bundle.name).override(*arguments.changes)
    if recipe.benchmark.bundle != bundle.name:
        raise UserError(f"benchmark.bundle is {recipe.benchmark.bundle}, and the command names {bundle.name}; name one "
                        "bundle.", where="benchmark.bundle")
    return runs.start(recipe, workspace), workspace


def benchmark(worker: Worker, recipe: Recipe) -> Recipe:
    """The job: time the bundle that the recipe names, or the one that this run exported."""
    from engine.export.benchmark import benchmark as measure

    asked, made = recipe.benchmark, worker.made.get("bundle")
    if not asked.bundle and not made:
        raise UserError("benchmark.bundle is empty; name the bundle whose speed is to be measured.",
                        where="benchmark.bundle")
    bundle = worker.workspace.find("bundles", asked.bundle) if asked.bundle else worker.workspace.path / str(made)
    facts = hardware.describe()
    machine = {**{name: facts[name] for name in MACHINE}, "memory_bandwidth": hardware.memory_bandwidth()}
    measure(bundle, asked, machine, worker.progress)
    worker.keep(benchmark=str((bundle / RESULT).relative_to(worker.workspace.path)))
    return recipe
