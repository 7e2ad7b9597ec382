"""Session: the only thing that the pages of one browser session share."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import panel as pn
import param

from engine import files, runs
from engine.config import UserError
from engine.recipe import Recipe
from engine.runs import Run
from engine.workspace import Workspace
from studio import labels
from studio.draft import Draft

log = logging.getLogger("studio")

DOUBLE_CLICK_SECONDS = 2.0


class Session(param.Parameterized):
    """The workspace, the draft and what is selected. `page`, `run`, `others` and `bundle` are in the address too."""

    page = param.String("home", doc="Noun of the page in sight")
    run = param.String("", doc="Name of the selected run")
    others = param.String("", doc="Names of the runs compared with it, with commas between")
    dark = param.Boolean(False, doc="Dark colours; remembered in the workspace")
    bundle = param.String("", doc="Name of the bundle to talk to")

    def __init__(self, workspace: Workspace | str | Path | None = None, **params: Any) -> None:
        super().__init__(**params)
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
        self.draft = Draft.load(self.draft_path)
        self._saved = self.draft.version
        self._started = 0.0
        self._tastes = self.workspace.path / "studio.json"
        self.dark = bool(self._remembered().get("dark", False))
        self.param.watch(self._remember, "dark")

    @property
    def draft_path(self) -> Path:
        return self.workspace.path / "draft.yaml"

    def recipe(self) -> Recipe | None:
        """The draft as a recipe, or None while something in it is wrong (`draft.problems` says what)."""
        return self.draft.recipe

    def keep(self) -> None:
        """Write the draft to the workspace if it changed, so that a reload or a restart finds it."""
        if self.draft.version != self._saved:
            self._saved = self.draft.version
            try:
                self.draft.save(self.draft_path)
            except UserError as error:
                self.notify(error.sentence, "error")

    def _remembered(self) -> dict[str, Any]:
        try:
            found = files.read_json(self._tastes)
        except UserError:
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, *_: Any) -> None:
        self.attempt(files.write_json, self._tastes, {"dark": self.dark})

    # Going places ------------------------------------------------------------------------------------

    def goto(self, noun: str, *, run: str | None = None, bundle: str | None = None) -> None:
        """Show another page, with a run or a bundle selected there."""
        if run is not None:
            self.run = run
        if bundle is not None:
            self.bundle = bundle
        self.page = noun

    @property
    def compared(self) -> list[str]:
        """The selected run, then those compared with it."""
        names = [self.run, *self.others.split(",")]
        return [name for place, name in enumerate(names) if name and name not in names[:place]]

    def notify(self, sentence: str, kind: str = "info") -> None:
        """A short message in the corner. `kind` is info, success, warning or error."""
        area = pn.state.notifications
        if area is not None:
            getattr(area, kind)(sentence, duration=10_000 if kind in ("warning", "error") else 5_000)
        else:
            log.info("%s: %s", kind, sentence)

    # Starting and steering runs ----------------------------------------------------------------------

    def start(self, recipe: Recipe, *, show: bool = True) -> Run | None:
        """Start a run and go to it; None if it could not start, or if this is the second half of a double click."""
        return self._begin(runs.start, recipe, show=show)

    def enqueue(self, recipe: Recipe, *, start_at: float = 0.0) -> Run | None:
        """Let a run wait for its turn, and go to it; None as in `start`."""
        run = self._begin(runs.enqueue, recipe, show=True, start_at=start_at)
        if run is not None:
            self.notify(f"{run.name} waits in the queue.", "success")
        return run

    def _begin(self, how: Any, recipe: Recipe, *, show: bool, **asked: Any) -> Run | None:
        if time.monotonic() - self._started < DOUBLE_CLICK_SECONDS:
            return None
        run: Run | None = self.attempt(how, recipe, self.workspace, **asked)
        if run is not None and show:
            self.others = ""
            self.goto("runs", run=run.name)
        if run is not None:
            self._started = time.monotonic()  # a second click waits until the first is done with
        return run

    def attempt(self, action: Any, *arguments: Any, **named: Any) -> Any:
        """Do something that may be refused: its result, or None after the sentence was shown."""
        try:
            return action(*arguments, **named)
        except UserError as error:
            self.notify(labels.named(error.sentence), "error")
        except OSError as error:
            self.notify(files.unwritable(self.workspace.path, error).sentence, "error")
        return None
