"""SpreadCard: over how many processes the draft's training goes, and the line or script that starts them elsewhere."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from engine.config import UserError
from engine.recipe import Recipe
from engine.runs.outside import sbatch, torchrun
from engine.stages import share
from engine.workspace import slug
from studio.session import Session
from studio.views import Fragment, Markup, card, number, txt

HOW = {
    "local": "Start begins them on this machine. The same by hand:",
    "torchrun": "Start makes the run, which then waits for this line. Type it on each machine, with the name of one of "
                "them in the place of FIRST_MACHINE where there are several:",
    "slurm": "Start makes the run and submits this script, where SLURM is on this machine. Elsewhere the run waits for "
             "sbatch:",
    "ray": "Start hands them to Ray, on this machine or on the cluster that RAY_ADDRESS names. Without Ray:",
}
SHARED = "All machines must see the workspace under the same path."


class SpreadCard(Viewer):
    """Follows the draft; not in sight while one process on this machine trains alone."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session, self.words = session, Fragment()
        self._view = card(self.words, title="Several processes", visible=False)
        session.draft.param.watch(lambda *_: self.refresh(), "version")
        self.refresh()

    def __panel__(self) -> Viewable:
        return self._view

    def refresh(self) -> None:
        recipe = self.session.draft.settled
        self._view.visible = several(recipe)
        if self._view.visible:
            self.words.html = spoken(recipe, self.session)


def several(recipe: Recipe) -> bool:
    train = recipe.train
    return "train" in recipe.jobs and (train.devices not in ("auto", "1") or train.nodes > 1
                                       or train.launcher != "local")


def spoken(recipe: Recipe, session: Session) -> Markup:
    """The card in words, with the code to copy."""
    train = recipe.train
    place = session.workspace.place("runs") / slug(recipe.name)
    code = sbatch(recipe, place) if train.launcher == "slurm" else torchrun(recipe, place)
    return txt('<p class="line">{}</p><p class="line">{}</p><div class="code"><pre id="spread">{}</pre>'
               '<button type="button" class="press" data-copy="#spread">Copy</button></div>',
               rows(recipe), " ".join([*([SHARED] if train.nodes > 1 else []), HOW[train.launcher]]), code)


def rows(recipe: Recipe) -> str:
    """How the rows of a step are shared out."""
    train = recipe.train
    all_rows = number(train.micro_batch_size * train.accumulation)
    if train.devices == "auto":
        return f"All GPUs of a machine share the {all_rows} rows of a step; without a GPU one process takes them all."
    processes = int(train.devices) * train.nodes
    try:
        at_once, times = share(train.micro_batch_size, train.accumulation, processes)
    except (StopIteration, UserError):
        return ""
    again = f", {times} times" if times > 1 else ""
    return (f"{processes} {'process takes' if processes == 1 else 'processes share'} the {all_rows} rows of a step: "
            f"each has {at_once} at once{again}. The step, and so the result, is the same with any number of them.")
