"""PlanCard: what the draft will take before it is started, that moves while one types; one dial; other machines."""

from __future__ import annotations

from typing import Any

import panel_material_ui as pmui
import yaml
from panel.viewable import Viewable, Viewer

from engine.config import UserError
from engine.plan import EDITABLE, prices
from engine.plan.dial import Proposal, propose
from engine.plan.here import here
from engine.plan.machines import estimates
from engine.plan.outline import Plan, outline
from engine.runs import Run
from engine.runs.history import seen
from studio import plan_parts as parts
from studio.background import Background
from studio.fields import SELECT_SX
from studio.forms import FOLD_SX, grid
from studio.layout import actions, button, stack
from studio.session import Session
from studio.views import Fragment, Markup, banner, card, txt


class PlanCard(Viewer):
    """Call `tick` twice a second; it reckons anew when the draft or a measurement changed."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session, self.machine = session, here()
        self.plan: Plan | None = None
        self.proposal: Proposal | None = None
        self._seen: Any = None
        self._probe: Run | None = None
        self._dialling = Background()
        self.room, self.figures = Fragment(on_press=self._press), Fragment()
        self.words, self.assumed, self.state = Fragment(), Fragment(), Fragment()
        self.measure = button("Measure", "timer", self._measure, description="Times up to 20 real steps of this recipe "
                              "in a process of its own, and weighs them. Takes less than a minute.")
        self.money = {name: pmui.TextInput(label=label, size="small", margin=0, sizing_mode="stretch_width")
                      for name, label in EDITABLE.items()}
        for name, field in self.money.items():
            field.param.watch(lambda event, name=name: self._price(name, event), "value")
        dial = self._dial()
        self.kind = pmui.Select(label="Device", size="small", sx=SELECT_SX, margin=0, width=240)
        self.kind.param.watch(lambda *_: self._machines(), "value")
        self.table = Fragment()
        folds = pmui.Accordion(
            ("Assumptions", stack(grid(list(self.money.values())), self.assumed, gap="12px")),
            ("One dial: from time or money to a recipe", dial),
            ("Machines that are not here", stack(self.kind, self.table, gap="12px")),
            sizing_mode="stretch_width", margin=0, title_variant="subtitle2", disable_gutters=True, elevation=0,
            sx=FOLD_SX, toggle=False)
        self.folds = folds
        self._view = card(self.room, self.figures, self.words, actions(self.measure, self.state), folds, title="Plan",
                          line="What this recipe takes on this machine, before it is started.")

    def __panel__(self) -> Viewable:
        return self._view

    def _dial(self) -> Viewable:
        self.hours = pmui.TextInput(label="Hours", value="1", size="small", margin=0, width=130)
        self.budget = pmui.TextInput(label="Money", value="", placeholder="no limit", size="small", margin=0, width=130)
        self.ask = button("Propose", "tune", self._propose)
        self.answer = Fragment(on_press=self._press)
        return stack(Fragment(txt('<p class="line">Say what there is; size, batch, steps and learning rate that reach '
                                  "the lowest expected loss with it are proposed, for the text that is set.</p>")),
                     actions(self.hours, self.budget, self.ask), self.answer, gap="12px")

    # Reckoning ---------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Reckon anew if anything changed."""
        self._take_proposal()
        ended = self._watch_probe()
        mark = (self.session.draft.version, self._stamp())
        if mark != self._seen or ended:
            self._seen = mark
            self.reckon()

    def _stamp(self) -> tuple[float, ...]:
        found = []
        for name in ("measured.json", "prices.yaml", "tokens"):
            try:
                found.append((self.session.workspace.path / name).stat().st_mtime)
            except OSError:
                found.append(0.0)
        return tuple(found)

    def reckon(self) -> None:
        """The plan of the draft as it stands; of what is right in it, while something is wrong."""
        recipe, workspace = self.session.draft.settled, self.session.workspace
        try:
            known = prices.load(workspace)
            self.plan = outline(recipe, workspace, figures=known, machine=self.machine, seen=seen(recipe, workspace))
        except UserError as error:
            self.plan = None
            self.room.html, self.figures.html = banner("error", error.sentence), Markup("")
            return
        self._show_prices(known)
        self.room.html, self.figures.html = parts.room(self.plan), parts.figures(self.plan)
        self.room.visible = bool(self.room.html)
        self.words.html, self.assumed.html = parts.words(self.plan), parts.assumptions(self.plan)
        self._machines(known)

    def _show_prices(self, known: prices.Prices) -> None:
        units = {"electricity": f"{known.currency} a kWh", "carbon": "kg CO2e a kWh", "overhead": "a factor"}
        for name, field in self.money.items():
            text = f"{getattr(known, name).value:g}"
            field.label = f"{EDITABLE[name]} ({units[name]})"
            if field.value != text and not field.error_state:
                field.value = text

    def _price(self, name: str, event: Any) -> None:
        field = self.money[name]
        try:
            known = prices.load(self.session.workspace)
            value = float(str(event.new).replace(",", "."))
            if value != getattr(known, name).value:
                prices.put(self.session.workspace, name, value)
            field.param.update(error_state=False, helper_text="")
        except ValueError:
            field.param.update(error_state=True, helper_text="Is no number")
        except UserError as error:
            field.param.update(error_state=True, helper_text=error.sentence)

    def _machines(self, known: prices.Prices | None = None) -> None:
        try:
            known = known or prices.load(self.session.workspace)
        except UserError:
            return
        names = [machine.name for machine in known.machines]
        if self.kind.options != names:
            self.kind.param.update(options=names, value=self.kind.value if self.kind.value in names else
                                   "H100" if "H100" in names else names[0])
        machine = known.machine(self.kind.value)
        self.table.html = parts.machines(estimates(self.session.draft.settled, machine, known), machine, known.currency)

    # Measuring ---------------------------------------------------------------------------------------

    def _measure(self) -> None:
        recipe = self.session.recipe()
        if recipe is None:
            self.session.notify("Put right what is wrong in the recipe first; then it can be measured.", "warning")
            return
        probe = recipe.replace(name=f"{recipe.name[:60]} measured", jobs=["probe"], from_run="")
        self._probe = self.session.start(probe, show=False)
        if self._probe is not None:
            self.measure.loading = True

    def _watch_probe(self) -> bool:
        """Show how far the measuring is; True when it has just ended."""
        if self._probe is None:
            return False
        status = self._probe.status()
        if status.active:
            said = f"step {status.step} of at most {status.of}" if status.of else "starting"
            self.state.html = txt('<p class="line">Measuring: {}.</p>', said)
            return False
        self.measure.loading = False
        self.state.html = banner("error", status.error or "The measuring was lost.") if status.state in (
            "failed", "lost") else Markup("")
        self._probe = None
        return True

    # One dial ----------------------------------------------------------------------------------------

    def _propose(self) -> None:
        limits = {}
        for name, field in (("hours", self.hours), ("money", self.budget)):
            try:
                limits[name] = float(str(field.value or "0").replace(",", "."))
                field.param.update(error_state=False, helper_text="")
            except ValueError:
                field.param.update(error_state=True, helper_text="Is no number")
                return
        recipe, workspace = self.session.draft.settled, self.session.workspace
        if self._dialling.begin(lambda: propose(recipe, workspace, figures=prices.load(workspace),
                                                machine=self.machine, seen=seen(recipe, workspace), **limits)):
            self.ask.loading = True

    def _take_proposal(self) -> None:
        done = self._dialling.take()
        if done is None:
            return
        self.ask.loading = False
        self.proposal, sentence = done
        if self.proposal is None:
            self.answer.html = banner("warning", sentence)
            return
        limits = [f"{self.hours.value} h" if self.hours.value not in ("", "0") else "",
                  f"{self.budget.value} {self.proposal.plan.currency}" if self.budget.value not in ("", "0") else ""]
        self.answer.html = parts.proposal(self.proposal, " and ".join(filter(None, limits)))

    def _press(self, what: str) -> None:
        verb, _, place = what.partition(":")
        if verb == "take" and self.proposal is not None:
            self._put(self.proposal.changes)
            self.session.notify("The proposal stands in the recipe. Look at it, then start.", "success")
        elif verb == "remedy" and self.plan is not None and int(place) < len(self.plan.remedies):
            self._put(self.plan.remedies[int(place)].changes)
        self.tick()

    def _put(self, changes: dict[str, Any]) -> None:
        """Dotted settings into the draft."""
        for name, value in changes.items():
            value = yaml.safe_load(value) if isinstance(value, str) and value.startswith("{") else value
            path = tuple(name.split("."))
            if path[-1] == "kind":
                if getattr(self.session.draft.effective(path[:-1]), "kind", "") != value:
                    self.session.draft.put(path[:-1], {"kind": value})
            else:
                self.session.draft.put(path, value)
