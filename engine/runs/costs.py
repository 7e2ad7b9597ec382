"""Costs: what a dataset, such as one whose bias was mitigated, cost the models that were trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine import files, runs
from engine.config import UserError
from engine.evaluate.cost import cost
from engine.workspace import Workspace

HOW = ("What it cost a model: train one run on the dataset as it was and one on this dataset, then evaluate both with "
       "evaluate.text_of set to the first, so that they are measured on one text.")


class Report(NamedTuple):
    """An evaluation, and what the model was trained on."""

    run: str
    dataset: str  # its folder
    figures: dict[str, Any]


def costs(dataset: Path, workspace: Workspace) -> list[tuple[str, str, dict[str, Any]]]:
    """Models of this dataset beside models of other datasets that were measured on the same text: the newest
    evaluation of each run, as (the other's run, this one's, `engine.evaluate.cost.cost`)."""
    found = _reports(workspace)
    return [(other.run, own.run, cost(other.figures, own.figures))
            for own in found if own.dataset == dataset.name
            for other in found if other.dataset != dataset.name
            and other.figures["text"] == own.figures["text"]]


def _reports(workspace: Workspace) -> list[Report]:
    """The evaluations that say which text they are of, newest first; a run's own is measured anew by a later one."""
    found: dict[tuple[str, str], Report] = {}
    for run in runs.listing(workspace):
        try:
            figures = files.read_json(run.path / "evaluation.json")
            source = runs.recipe_of(run).from_run or run.name
            dataset = runs.find(source, workspace).made().get("dataset", "")
        except UserError:
            continue  # not evaluated, or no longer whole
        if isinstance(figures, dict) and figures.get("text") and dataset:
            found.setdefault((source, figures["text"]), Report(source, Path(dataset).name, figures))
    return list(found.values())
