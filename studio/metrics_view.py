"""MetricsView: a run's metrics as files for other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine import files
from engine.config import UserError
from engine.runs import Run, tables
from engine.runs.launch import python_path
from studio.background import Background
from studio.layout import actions, button, stack
from studio.session import Session
from studio.texts import Text, path
from studio.views import Markup, banner, join, txt


class MetricsView(Viewer):
    """Writes the metrics of one run. Call `look(run)` when another is looked at, and `tick`."""

    def __init__(self, session: Session, **params: object) -> None:
        super().__init__(**params)
        self.session = session
        self.run: Run | None = None
        self.told = Text()
        self.download = pmui.FileDownload(label="Download", icon="download", size="small", margin=0, visible=False)
        self.buttons = [button("Write CSV", "table_view", self._csv, size="small"),
                        button("Write for TensorBoard", "insights", self._tensorboard, size="small")]
        self._work = Background()
        self._view = stack(actions(*self.buttons, self.download), self.told, gap="12px")

    def __panel__(self) -> Viewable:
        return self._view

    def look(self, run: Run) -> None:
        if run != self.run:
            self.run = run
            self.download.visible = False
            self.told.html = txt('<p class="line">Every number of this run: steps, tokens, losses, speed, energy.</p>')

    def tick(self) -> None:
        """Show what was written meanwhile."""
        over = self._work.take()
        for each in self.buttons:
            each.loading = self._work.busy
        if over is None:
            return
        made, problem = over
        self.told.html = banner("error", problem) if problem else self._made(made)
        if not problem and made.suffix == ".csv":
            self.download.param.update(file=str(made), filename=f"{self.run.name}.csv" if self.run else "metrics.csv",
                                       visible=True)

    def _made(self, made: Path) -> Markup:
        if made.suffix == ".csv":
            return path(made)
        line = f"tensorboard --logdir {self.session.workspace.place('runs')}"
        return join([path(line), txt('<p class="line">Shows every run that was written so, each under its name. '
                                     "TensorBoard is a program of its own: pip install tensorboard.</p>")])

    def _csv(self) -> None:
        run = self.run
        if run is not None:
            self._work.begin(lambda: write_csv(run))

    def _tensorboard(self) -> None:
        run = self.run
        if run is not None:
            self._work.begin(lambda: write_tensorboard(run))


def write_tensorboard(run: Run) -> Path:
    """The metrics as TensorBoard's event files, by a process of its own: the library that writes them imports torch."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", "metrics", run.name, "--tensorboard", "--workspace",
         str(run.path.parent.parent)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path()})
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("studio: ") or "TensorBoard's files could not be written.")
    return run.path / "tensorboard"


def write_csv(run: Run) -> Path:
    """The metrics as `metrics.csv` in the run's folder."""
    target = run.path / "metrics.csv"
    files.write(target, tables.to_csv(run))
    return target
