"""Jobs: what a run can be asked to do, each in terms of the noun that knows how.

A job takes the worker and the recipe and returns the recipe, with what `auto` became filled in.
A job whose result exists already, made from the same inputs and settings, takes it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine import files
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import Run, find
from engine.runs.possible import no_text
from engine.table import Table

if TYPE_CHECKING:
    from engine.runs.worker import Worker

TOLD = 3  # broken records that are named in the timeline; the dataset's quarantine has them all

JOBS: Table[Callable[[Worker, Recipe], Recipe]] = Table("job")


@JOBS.add("probe")
def probe(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.runs.probe import probe as measure

    measure(worker, recipe)
    return recipe


@JOBS.add("import")
def bring_in(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.runs.imported import bring_in as take

    take(worker, recipe)
    return recipe


@JOBS.add("curate")
def curate(worker: Worker, recipe: Recipe) -> Recipe:
    _dataset(worker, recipe)
    return recipe


@JOBS.add("tokenize")
def tokenize(worker: Worker, recipe: Recipe) -> Recipe:
    _tokens(worker, recipe)
    return _with_vocabulary(worker, recipe)


@JOBS.add("train")
def train(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.runs import columns, dispatch

    tokens = _tokens(worker, recipe)
    recipe = _with_vocabulary(worker, recipe)
    try:
        checkpoint = dispatch.train(worker, recipe, tokens)
        worker.keep(checkpoint=_relative(worker, checkpoint))
    finally:
        columns.history(worker.run)  # whoever opens it, however it ended, finds its columns
    return recipe


@JOBS.add("evaluate")
def evaluate(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.evaluate.report import evaluate as measure

    checkpoint, other = _checkpoint(worker, recipe, "best"), recipe.evaluate.text_of
    if "published" in (source := _source(worker, recipe)).made():
        if not other:
            missing = no_text(source.name)
            raise UserError(f"{missing.field} {missing.sentence}.", where=missing.field)
        text = _text_of(worker, recipe, checkpoint, other)
    else:
        tokens = _tokens(worker, recipe)
        text = _text_of(worker, recipe, tokens, other) if other else tokens
    report = measure(checkpoint, text, recipe.evaluate, worker.progress, seed=recipe.seed)
    report["text_of"] = other or _source(worker, recipe).name
    files.write_json(worker.run.path / "evaluation.json", report)
    worker.keep(evaluation=_relative(worker, worker.run.path / "evaluation.json"))
    return recipe


@JOBS.add("export")
def export(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.export.bundle import export as make
    from engine.export.data_card import facts as of_dataset
    from engine.runs.energy import account

    recipe = _with_places(worker, recipe)
    source = _source(worker, recipe)
    lineage = {**source.made(), "run": source.name}
    evaluation = source.path / "evaluation.json"
    asked = recipe.export if recipe.export.licence else recipe.export.replace(licence=lineage.get("licence", ""))
    bundle, parity = make(
        _checkpoint(worker, recipe, recipe.export.checkpoint), asked,
        worker.workspace.place("bundles") / source.name, worker.progress,
        # A published model was made by a recipe that nobody told.
        facts={"recipe": {} if "published" in lineage else recipe.dump(), "lineage": lineage,
               "dataset": of_dataset(worker.workspace.path / lineage["dataset"], worker.workspace.resolve)
               if "dataset" in lineage else {},
               "evaluation": files.read_json(evaluation) if evaluation.exists() else {},
               "energy": account(source.rows("metrics")[0], source.rows("events")[0])},
        held_out=worker.workspace.path / lineage["tokens"] if "tokens" in lineage else None,
    )
    worker.run.event("parity", **parity)
    if not parity["passed"]:  # no bundle was made
        raise UserError(f"The exported model is not the same model: {parity['sentence']}", where=worker.run.name)
    for row in parity.get("costs", ()):
        if not row["passed"]:
            worker.run.event("warning", sentence=f"{row['sentence']} It is not in the bundle.")
    if refused := parity.get("gguf", {}).get("refused"):
        worker.run.event("warning", sentence=refused)
    worker.keep(bundle=_relative(worker, bundle))
    return recipe


@JOBS.add("benchmark")
def benchmark(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.runs.timing import benchmark as measure

    return measure(worker, recipe)


@JOBS.add("lr_range")
def lr_range(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.runs.lr_range import lr_range as test

    tokens = _tokens(worker, recipe)
    recipe = _with_vocabulary(worker, recipe)
    test(worker, recipe, tokens)
    return recipe


@JOBS.add("sweep")
def sweep(worker: Worker, recipe: Recipe) -> Recipe:
    from engine.runs.sweep import sweep as search

    search(worker, recipe)
    return recipe


def _dataset(worker: Worker, recipe: Recipe) -> Path:
    from engine.corpus.pipeline import curate as make

    if found := _made(worker, recipe, "dataset"):
        return found
    folder = make(recipe.corpus, worker.workspace, _name(recipe), worker.progress)
    _keep(worker, "dataset", folder)
    _tell_of_quarantine(worker, folder)
    _tell_of_skipped(worker, recipe)
    return folder


def _tell_of_quarantine(worker: Worker, dataset: Path) -> None:
    """Say what could not be read and what was not looked at: nobody should have to search for that."""
    from engine.corpus.readers import Rejected

    path, told, count = dataset / "quarantine.jsonl", list[str](), 0
    if path.exists():
        with open(path, encoding="utf-8") as lines:   # a file's lines end with \n alone: names may hold other line ends
            for count, line in enumerate(lines, 1):
                row = json.loads(line)
                if count <= TOLD:
                    told.append(str(Rejected(row["file"], row["line"] or 0, row["reason"], row.get("offset"))))
    if count:
        more = f"; and {count - TOLD} more" if count > TOLD else ""
        records = f"{count} {'record' if count == 1 else 'records'}"
        worker.run.event("warning", sentence=f"{records} could not be read and had to be left out: {'; '.join(told)}"
                                             f"{more}. All are in {_relative(worker, path)}.")


def _tell_of_skipped(worker: Worker, recipe: Recipe) -> None:
    from engine.corpus.sources import skipped

    for source in recipe.corpus.sources:
        if left := skipped(source, worker.workspace):
            worker.run.event("warning", sentence=f"{left}. Rename them, convert them, or leave them where they are.")


def _tokens(worker: Worker, recipe: Recipe) -> Path:
    from engine.tokens.shards import tokenize as make

    if found := _made(worker, recipe, "tokens"):
        return found
    folder = make(recipe.tokens, _dataset(worker, recipe), worker.workspace, _name(recipe), worker.progress)
    _keep(worker, "tokens", folder)
    return folder


def _text_of(worker: Worker, recipe: Recipe, tokens: Path, other: str) -> Path:
    """The text of another run's dataset, cut by the tokenizer in `tokens`; what of its held-out part this run was
    trained on is told."""
    from engine.corpus.leak import between
    from engine.tokens import TokensConfig
    from engine.tokens.shards import tokenize as make

    dataset = _whole(worker, find(other, worker.workspace).made().get("dataset"))
    if dataset is None:
        raise UserError(f"run {other} has no dataset in this workspace any more; name another run.",
                        where="evaluate.text_of")
    own = _known(worker, recipe, "dataset")
    if own not in (None, dataset) and (found := between(own, dataset)["documents"]):
        worker.run.event("warning", sentence=f"{found} held-out documents of {other} stand in the text that this model "
                                             "was trained on, so it may look better than it is.")
    config = TokensConfig(tokenizer=str((tokens / "tokenizer.json").relative_to(worker.workspace.path)))
    return make(config, dataset, worker.workspace, f"{dataset.name.rpartition('-')[0]}-by-{recipe.name}"[:80],
                worker.progress)


def _name(recipe: Recipe) -> str:
    """What is made is called after the run that it is for, not after the range test that happened to need it first."""
    return recipe.name.removesuffix("-lr-range") if recipe.jobs == ("lr_range",) else recipe.name


def _keep(worker: Worker, kind: str, folder: Path) -> None:
    """Remember what was made, and say so if an earlier run had made it already."""
    worker.keep(**{kind: _relative(worker, folder)})
    if (folder / files.MANIFEST).stat().st_mtime < worker.begun:
        worker.run.event("reused", what=kind, path=_relative(worker, folder))


def _made(worker: Worker, recipe: Recipe, kind: str) -> Path | None:
    """What this run, or the run whose checkpoint it looks at, worked on before. The corpus may have changed
    since; the model that was trained on it has not."""
    if folder := _known(worker, recipe, kind):
        worker.keep(**{kind: _relative(worker, folder)})
    return folder


def _known(worker: Worker, recipe: Recipe, kind: str) -> Path | None:
    """The same, only looked up."""
    return _whole(worker, {**_source(worker, recipe).made(), **worker.made}.get(kind))


def _whole(worker: Worker, path: str | None) -> Path | None:
    """A folder that was made in the workspace, if it is there in full."""
    folder = worker.workspace.path / path if path else None
    return folder if folder and (folder / files.MANIFEST).exists() else None


def _with_vocabulary(worker: Worker, recipe: Recipe) -> Recipe:
    """The recipe with the vocabulary of a tokenizer that was given."""
    folder = worker.workspace.path / worker.made["tokens"]
    size = files.read_json(folder / files.MANIFEST)["summary"]["vocab_size"]
    if size == recipe.tokens.vocab_size:
        return recipe
    worker.resolved(setting="tokens.vocab_size", value=size, why="the size of the tokenizer that was given")
    return recipe.override(f"tokens.vocab_size={size}")


def _checkpoint(worker: Worker, recipe: Recipe, which: str) -> Path:
    """The best or last checkpoint of this run, or of the run that the recipe names."""
    from engine.runs.checkpoint import best, last

    run = _source(worker, recipe)
    if not run.checkpoints:
        raise UserError(f"run {run.name} has no complete checkpoint; train it first.", where=run.name)
    return best(run) if which == "best" else last(run)


def _source(worker: Worker, recipe: Recipe) -> Run:
    """The run whose checkpoint is looked at: the one that the recipe names, or this one."""
    own = {"train", "import"} & set(recipe.jobs)
    return find(recipe.from_run, worker.workspace) if recipe.from_run and not own else worker.run


def _with_places(worker: Worker, recipe: Recipe) -> Recipe:
    """The recipe with the files that its export names as they lie on this machine, if they may be read."""
    named = {name: path for name in ("adapter", "pairs") if (path := getattr(recipe.export, name))}
    found = {name: str(worker.workspace.resolve(path)) for name, path in named.items()}
    return recipe.replace(export={**recipe.export.dump(), **found}) if found else recipe


def _relative(worker: Worker, path: Path) -> str:
    return str(path.relative_to(worker.workspace.path))
