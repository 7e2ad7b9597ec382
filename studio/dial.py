"""Dial: an amount of time or money, here or on a rented machine, becomes a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.plan import prices
from engine.plan.dial import Proposal, propose
from engine.plan.here import Here
from engine.runs.history import seen
from studio import plan_parts as parts
from studio.background import Background
from studio.layout import actions, button, stack
from studio.session import Session
from studio.views import Fragment, banner, txt

HERE = "This machine"


class Dial(Viewer):
    """`take` is called with the settings of a proposal that was accepted. Call `tick` twice a second."""

    def __init__(self, session: Session, machine: Here, take: Callable[[dict[str, Any]], None], **params: Any) -> None:
        super().__init__(**params)
        self.session, self.machine, self.take = session, machine, take
        self.proposal: Proposal | None = None
        self.working = Background()
        self._limits: list[str] = []
        self.hours = pmui.TextInput(label="Hours", value="1", size="small", margin=0, width=120)
        self.budget = pmui.TextInput(value="", placeholder="no limit", size="small", margin=0, width=240)
        self.place = pmui.Select(label="Where", options=[HERE], value=HERE, size="small", margin=0, width=180)
        self.devices = pmui.TextInput(label="Devices", value="1", size="small", margin=0, width=100, visible=False)
        self.place.param.watch(lambda *_: self._placed(), "value")
        self.ask = button("Propose", "tune", self.propose)
        self.answer = Fragment(on_press=self._press)
        self._currency = ""
        self._view = stack(
            Fragment(txt('<p class="line">Say what there is; size, batch, steps and learning rate that reach the '
                         "lowest expected loss with it are proposed, for the text that is set.</p>")),
            actions(self.place, self.devices, self.hours, self.budget, self.ask), self.answer, gap="12px")

    def __panel__(self) -> Viewable:
        return self._view

    def show(self, figures: prices.Prices) -> None:
        """The machines that there are, and the currency."""
        self._currency = figures.currency
        options = [HERE, *(each.name for each in figures.machines)]
        if self.place.options != options:
            self.place.param.update(options=options, value=self.place.value if self.place.value in options else HERE)
        self._placed()

    def tick(self) -> None:
        """Show what came out."""
        done = self.working.take()
        if done is None:
            return
        self.ask.loading = False
        self.proposal, sentence = done
        if self.proposal is None:
            self.answer.html = banner("warning", sentence)
        else:
            self.answer.html = parts.proposal(self.proposal, " and ".join(self._limits))

    def propose(self) -> None:
        """Begin to look for the recipe."""
        limits, fields = {}, {"hours": self.hours, "money": self.budget, "devices": self.devices}
        for name, field in fields.items():
            try:
                limits[name] = float(str(field.value or "0").replace(",", "."))
                if name == "devices" and not (limits[name].is_integer() and 1 <= limits[name] <= 1024):
                    field.param.update(error_state=True, helper_text="1 to 1,024")
                    return
                field.param.update(error_state=False, helper_text="")
            except ValueError:
                field.param.update(error_state=True, helper_text="Is no number")
                return
        devices = int(limits.pop("devices"))
        recipe, workspace, machine = self.session.draft.settled, self.session.workspace, self.machine
        where = "" if self.place.value == HERE else str(self.place.value)

        def look() -> Proposal:
            figures = prices.load(workspace)
            return propose(recipe, workspace, figures=figures, machine=machine, seen=seen(recipe, workspace),
                           rent=figures.machine(where) if where else None, devices=devices if where else 1, **limits)

        if self.working.begin(look):
            self.ask.loading = True
            self._limits = [f"{limits['hours']:g} h" if limits["hours"] else "",
                            f"{limits['money']:g} {self._currency} for {self._for}" if limits["money"] else ""]
            self._limits = [f"{' and '.join(filter(None, self._limits))}{f' on {devices} × {where}' if where else ''}"]

    @property
    def _for(self) -> str:
        return "electricity" if self.place.value == HERE else "rent"

    def _placed(self) -> None:
        self.devices.visible = self.place.value != HERE
        self.budget.label = f"Money for {self._for} ({self._currency})"

    def _press(self, what: str) -> None:
        if what == "take" and self.proposal is not None:
            self.take(self.proposal.changes)
            self.session.notify("The proposal stands in the recipe. Look at it, then start.", "success")
