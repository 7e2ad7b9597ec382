"""Possible: what is known before a run is made to end it: machines, devices and runs that are not there."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.config import Problem, UserError
from engine.recipe import Recipe
from engine.runs.folder import Run
from engine.workspace import Workspace

TRAINING = {"probe", "train", "lr_range", "sweep"}
TOKENIZER = "tokenizer.json"
DRIVERS = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "kfd", "dxg")  # NVIDIA's, Jetson's, AMD's and WSL's devices


def impossible(recipe: Recipe, workspace: Workspace) -> list[Problem]:
    """What stands in the way of such a run on this machine; one sentence for each setting."""
    train, jobs = recipe.train, set(recipe.jobs)
    found = []
    if train.nodes > 1 and train.launcher == "local" and TRAINING & jobs:
        found.append(Problem("train.nodes", f"is {train.nodes}, and the studio starts processes on this machine alone; "
                                            "set train.launcher to torchrun, slurm or ray, or train.nodes to 1"))
    if train.device == "cuda" and train.launcher == "local" and TRAINING & jobs and (missing := no_gpu()):
        found.append(Problem("train.device", f"is cuda, but {missing}; choose auto or cpu"))
    if "evaluate" in jobs and recipe.evaluate.text_of:
        found += _source("evaluate.text_of", recipe.evaluate.text_of, workspace)
    if recipe.from_run and "train" in jobs:
        found.append(Problem("from_run", f"is {recipe.from_run}, and a run that trains begins anew; leave it empty"))
    elif recipe.from_run and {"evaluate", "export"} & jobs:
        found += _source("from_run", recipe.from_run, workspace) or _brought_in(recipe, workspace)
    if "import" in jobs:
        found += _published(recipe, workspace)
    if "benchmark" in jobs and recipe.benchmark.bundle:
        found += _bundle(recipe.benchmark.bundle, workspace)
    return found


def require_possible(recipe: Recipe, workspace: Workspace) -> None:
    """Refuse what cannot come to anything, before there is a folder for it."""
    if found := impossible(recipe, workspace):
        raise UserError("; ".join(f"{each.field} {each.sentence}" for each in found) + ".", where=found[0].field)


def no_gpu(devices: Path = Path("/dev")) -> str:
    """Why torch can find no GPU here, as far as that is known without loading it; empty if it may find one."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    if torch.endswith("+cpu"):
        return f"the torch that is installed here ({torch}) is made for processors alone"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    return "" if any(any(devices.glob(name)) for name in DRIVERS) else "this machine shows no GPU"


def no_text(name: str) -> Problem:
    """Why a model that was trained elsewhere is not evaluated by itself."""
    return Problem("evaluate.text_of", f"is empty, and {name} was trained elsewhere, so no text here was kept out of "
                                       "its training; name a run whose held-out text it shall read")


def _brought_in(recipe: Recipe, workspace: Workspace) -> list[Problem]:
    """What is known of the run that is looked at, if it holds a published model."""
    run = Run(workspace.place("runs") / recipe.from_run)
    if "published" not in run.made():
        return []
    found = [no_text(run.name)] if "evaluate" in recipe.jobs and not recipe.evaluate.text_of else []
    if any(not (path / TOKENIZER).is_file() for path in run.checkpoints):
        found.append(Problem("from_run", f"is {run.name}, which came without a {TOKENIZER}, so it can neither be "
                                         "exported nor read a text; put the file of its model beside its weights and "
                                         "import it again"))
    return found


def _published(recipe: Recipe, workspace: Workspace) -> list[Problem]:
    known = recipe.published.folder or recipe.published.repository
    found = [no_text(known)] if "evaluate" in recipe.jobs and not recipe.evaluate.text_of else []
    return found + (_folder(recipe, workspace) if recipe.published.folder else [])


def _folder(recipe: Recipe, workspace: Workspace) -> list[Problem]:
    typed, where = recipe.published.folder, "published.folder"
    try:
        folder = workspace.resolve(typed)
    except UserError:
        there = Path(typed).expanduser()
        if there.is_absolute() and not there.is_dir():
            return [Problem(where, f"is {typed}, and there is no such folder")]
        return [Problem(where, f"is {typed}, outside the workspace {workspace.path}; allow it (studio: Allow this "
                               f"folder; command line: --allow {typed}), or copy it into the workspace")]
    if not folder.is_dir():
        return [Problem(where, f"is {typed}, and there is no such folder")]
    if (folder / "config.json").is_file():
        if {"evaluate", "export"} & set(recipe.jobs) and not (folder / TOKENIZER).is_file():
            return [Problem(where, f"is {typed}, which has no {TOKENIZER}, so it can neither be exported nor read a "
                                   "text; put the file of its model beside its weights")]
        return []
    if (folder / "adapter_config.json").is_file():
        return [Problem(where, f"is {typed}, which holds an adapter and no model; bring in the model that it was "
                               f"trained on, and export that with export.adapter={typed}")]
    return [Problem(where, f"is {typed}, which has no config.json; name the folder of a published model: config.json, "
                           "safetensors and tokenizer.json")]


def _bundle(name: str, workspace: Workspace) -> list[Problem]:
    from engine.inference.bundle import WRITES_NONE, scores

    try:
        bundle = workspace.find("bundles", name)
        if not scores(bundle):
            return []
    except UserError as error:
        return [Problem("benchmark.bundle", f"is {name}: {error.sentence.rstrip('.')}")]
    return [Problem("benchmark.bundle", f"is {name}, which {WRITES_NONE}")]


def _source(field: str, name: str, workspace: Workspace) -> list[Problem]:
    runs = workspace.place("runs")
    run = Run(runs / name)
    if run.path.parent != runs or not run.recipe_path.is_file():
        needed = "dataset" if field == "evaluate.text_of" else "checkpoint"
        names = [path.name for path in workspace.listing("runs")
                 if (path / "recipe.yaml").is_file() and needed in Run(path).made()]
        return [Problem(field, f"is {name}, and there is no such run; there are {', '.join(names[:12]) or 'none yet'}")]
    if field == "evaluate.text_of" and not run.status().active and "dataset" not in run.made():
        return [Problem(field, f"is {name}, and that run made no dataset; name another run")]
    return []
