"""Sources: everything that can speak, by its name: bundles in each of their precisions, and checkpoints of runs.

A checkpoint becomes a graph first, in a process that has torch; who asks has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from engine import inference, runs
from engine.config import UserError
from engine.inference.bundle import FULL, keeps_adapter, precisions, scores
from engine.inference.chat import template_of
from engine.model import published
from engine.runs.launch import python_path
from engine.workspace import Workspace

OPENING_SECONDS = 300


class Source(NamedTuple):
    """What can speak: a graph of a bundle, or a checkpoint."""

    label: str
    folder: Path
    precision: str = FULL
    checkpoint: bool = False
    scores: bool = False        # it reads texts and writes none
    adapter: bool = False       # with the LoRA adapter that the bundle keeps

    @property
    def answers(self) -> bool:
        """Whether it has a chat template, by which it was taught to answer."""
        try:
            return not self.scores and bool(template_of(self.folder))
        except UserError:
            return False        # opening it says what is wrong


def sources(workspace: Workspace, refused: list[str] | None = None) -> dict[str, Source]:
    """Everything that can speak, by its label: bundles in each of their precisions, then checkpoints, newest first.

    A bundle whose manifest is damaged can't; `refused` gets a sentence on each.
    """
    found = []
    for bundle in workspace.listing("bundles"):
        try:
            kinds, judges, adapted = precisions(bundle), scores(bundle), keeps_adapter(bundle)
        except UserError as error:
            if refused is not None:
                refused.append(f"Bundle {bundle.name} is left out: {error.sentence}")
            continue
        for kind in kinds:
            label = bundle.name if kind == FULL else f"{bundle.name} ({kind})"
            found.append(Source(label, bundle, kind, scores=judges))
            if adapted:
                found.append(Source(f"{label} with its adapter", bundle, kind, adapter=True))
    for run in runs.listing(workspace):
        found += [_of_checkpoint(path) for path in run.checkpoints[::-1]]
    return {source.label: source for source in found}


def find(name: str, workspace: Workspace, precision: str = FULL, adapter: bool = False) -> Source:
    """The source of this name: a label of `sources`, a bundle's name or folder, RUN/step-000850, or a run's name for
    its newest checkpoint. Raises UserError that names those there are."""
    for folder in (workspace.place("bundles") / name, Path(name).expanduser()):
        if name and folder.is_dir():
            if folder.parent.name == "checkpoints":
                return _of_checkpoint(folder.resolve())
            judges = _scores(folder)
            label = folder.resolve().name + ("" if precision == FULL else f" ({precision})")
            return Source(label + (" with its adapter" if adapter else ""), folder, precision, scores=judges,
                          adapter=adapter)
    known = sources(workspace)
    of_run, _, step = name.partition("/")
    found = known.get(name) or next((source for source in known.values() if source.checkpoint and name and
                                     source.folder.parts[-3] == of_run and step in ("", source.folder.name)), None)
    if found is None:
        names = ", ".join(list(known)[:12])
        raise UserError(f"{name} is neither a bundle nor a folder; there are {names or 'none yet'}.", where=name)
    if found.checkpoint and (precision != FULL or adapter):
        raise UserError(f"{found.label} is a checkpoint, which has neither other precisions nor an adapter beside it; "
                        "leave --precision and --adapter out.", where="precision")
    return found


def _scores(folder: Path) -> bool:
    try:
        return scores(folder)
    except UserError:
        return False            # opening it says what is wrong


def _of_checkpoint(path: Path) -> Source:
    try:
        judges = published.scores(path)
    except UserError:
        judges = False          # opening it says what is wrong
    return Source(f"{path.parts[-3]}, checkpoint {path.name}", path, checkpoint=True, scores=judges)


def open_source(source: Source) -> Any:
    """The model of a source, ready to write or to score: a `Generator` or a `Scorer`."""
    if source.scores and not source.checkpoint:
        return inference.load_scorer(source.folder, precision=source.precision)     # imports onnxruntime
    if not source.checkpoint:
        return inference.load(source.folder, precision=source.precision, adapter=source.adapter)
    with tempfile.TemporaryDirectory() as place:
        asked("speak", str(source.folder), f"{place}/speaks")
        model: Any = (inference.load_scorer if source.scores else inference.load)(Path(place) / "speaks")
    if not source.scores:
        model.template = model.template or template_of(source.folder)   # one in a file of its own is not carried along
    return model


def open_writer(source: Source) -> Any:
    """The model of a source, ready to write: a `Generator`. UserError for one that scores."""
    if source.scores:
        instead = "" if source.checkpoint else f", or score with it: studio score {source.folder.name} TEXT"
        raise UserError(f"{source.label} scores texts and writes none; choose another{instead}.", where=source.label)
    return open_source(source)


def asked(*arguments: str, given: str = "") -> str:
    """What `engine.export.preview` prints, in a process of its own; its sentence as a UserError."""
    command = [sys.executable, "-m", "engine.export.preview", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=OPENING_SECONDS,
                              env={**os.environ, "PYTHONPATH": python_path()})
    except subprocess.TimeoutExpired:
        raise UserError(f"the model was not ready after {OPENING_SECONDS} seconds; try a smaller one.") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()
        raise UserError(last[-1] if last else "the process that reads the model ended without a word.")
    return done.stdout
