"""Imported: a run that holds a published model as its one checkpoint, so that whatever reads checkpoints reads it."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from engine import files
from engine.config import UserError
from engine.model import hub
from engine.progress import Progress
from engine.recipe import Recipe
from engine.runs import Run, checkpoint, start
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.runs.worker import Worker

FOLDER = "step-000000"


def bring_in(worker: Worker, recipe: Recipe) -> Path:
    """The checkpoint folder of the model that the recipe names, read through once before it counts.

    What was fetched so far stays in the run's folder when the run is stopped or breaks off; a resume goes on with it.
    """
    from engine.model.estimate import parameters
    from engine.model.scorer import load_either as load

    asked, target = recipe.published, worker.run.path / "checkpoints" / FOLDER
    coming = worker.run.path / "coming"
    coming.mkdir(exist_ok=True)
    if asked.repository:
        origin = hub.fetch(asked, coming, worker.progress)
        worker.resolved(setting="published.revision", value=origin.revision, why=f"what {asked.revision} stood for")
    else:
        source = worker.workspace.resolve(asked.folder)
        if source.is_dir():
            hub.vetted(source, worker.workspace.permits)    # before anything is read
        load(source, "meta")    # a sentence about what is wrong names the folder that the person knows
        origin = hub.copy(source, coming, worker.workspace.permits, worker.progress)
    model = load(coming, "meta")
    _require_numbers(coming, worker.progress)
    if not (coming / "tokenizer.json").exists():
        worker.event("warning", sentence=f"{origin.words} has no tokenizer.json, so it can neither be exported nor "
                                         "talked to; put the file of its model beside its weights and bring it in "
                                         "again.")
    with files.making(target) as folder:
        for path in sorted(coming.iterdir()):
            if path.is_file() and hub.WANTED.fullmatch(path.name):
                os.replace(path, folder / path.name)
        checkpoint.seal(folder, step=0, tokens=0, val_loss=None)
    shutil.rmtree(coming, ignore_errors=True)
    worker.event("checkpoint", step=0, path=str(target.relative_to(worker.run.path)), val_loss=None)
    worker.resolved(setting="model", value=f"{model.config.family}, {parameters(model.config):,} parameters",
                    why="what its config.json states")
    worker.keep(published=origin.words, checkpoint=str(target.relative_to(worker.workspace.path)),
                **({"licence": origin.licence} if origin.licence else {}))
    return target


def _require_numbers(folder: Path, progress: Progress) -> None:
    """Refuse weights that are NaN or infinite: nothing that such a model writes or scores means anything."""
    import torch
    from safetensors import safe_open

    found = sorted(folder.glob("*.safetensors"))
    sizes = [path.stat().st_size for path in found]
    whole = hub.mebibytes(sizes)
    for place, path in enumerate(found):
        progress(sum(sizes[:place]) // hub.MIB, whole, f"reading {path.name} through")
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - no dict
                tensor = weights.get_tensor(name)
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise UserError(f"{path.name}: {name} holds values that are not numbers (NaN or infinite), so the "
                                    "model can't work; get the file again, or from elsewhere.", where=str(path))
    progress(whole, whole)


def takes_published(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="FOLDER", nargs="?", default="",
                         help="folder of a published model: config.json, safetensors and tokenizer.json")
    command.add_argument("--hub", metavar="OWNER/NAME", default="",
                         help="fetch this model from the Hugging Face hub; goes to the network")
    command.add_argument("--revision", default="main", help="branch, tag or commit of the repository (main)")
    command.add_argument("--allow", metavar="FOLDER", action="append", default=[],
                         help="let models be read from this folder outside the workspace")
    command.add_argument("--detach", action="store_true", help="start in the background and return")


def begin(arguments: argparse.Namespace) -> tuple[Run, Workspace]:
    """Start the run that the command line asks for."""
    workspace = Workspace(arguments.workspace, allow=arguments.allow)
    recipe = recipe_for(_standing(arguments.folder, workspace), arguments.hub, arguments.revision)
    if arguments.hub:
        print(f"{arguments.hub} is fetched over the network: weights as safetensors, settings, tokenizer; no code")
    return start(recipe, workspace), workspace


def _standing(folder: str, workspace: Workspace) -> str:
    """The folder that was typed, as seen from where one stands, or else in the workspace.

    Raises UserError that names both places if it is in neither.
    """
    typed = Path(folder).expanduser()
    if not folder or typed.is_absolute():
        return folder
    if typed.exists():
        return str(typed.resolve())
    if not workspace.resolve(folder).exists():
        raise UserError(f"There is no {folder} in {Path.cwd()}, nor in the workspace {workspace.path}; name the folder "
                        "of a published model.", where="published.folder")
    return folder


def recipe_for(folder: str, repository: str, revision: str = "main") -> Recipe:
    """The recipe of a run that brings a published model in. Raises UserError unless one of the two is named."""
    if bool(folder) == bool(repository):
        raise UserError("name either the folder of a published model, or its repository with --hub.",
                        where="published.folder")
    name = (repository or Path(folder).name).rpartition("/")[2]
    values = {"repository": repository, "revision": revision} if repository else {"folder": folder}
    return Recipe().override(f"name={name[:80]!r}", "jobs=[import]", *(f"published.{key}={value!r}"
                                                                     for key, value in values.items()))
