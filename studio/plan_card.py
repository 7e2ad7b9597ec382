"""PlanCard: what the draft will take before it is started, that moves while one types; one dial; other machines."""

from __future__ import annotations

from typing import Any

import panel_material_ui as pmui
import yaml
from panel.viewable import Viewable, Viewer

from engine.config import UserError
from engine.plan import EDITABLE, UNITS, prices
from engine.plan.here import here
from engine.plan.machines import estimates
from engine.plan.outline import Plan, outline
from engine.runs import Run
from engine.runs.history import seen
from studio import plan_parts as parts
from studio.dial import Dial
from studio.forms import FOLD_SX, grid
from studio.layout import actions, button, stack
from studio.session import Session
from studio.views import Fragment, Markup, banner, card, txt


class PlanCard(Viewer):
    """Call `tick` twice a second; it reckons anew when the draft or a measurement changed."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session, self.machine = session, here(session.workspace)
        self.plan: Plan | None = None
        self._seen: Any = None
        self._probe: Run | None = None
        self.room, self.figures = Fragment(on_press=self._press), Fragment()
        self.words, self.assumed, self.state = Fragment(), Fragment(), Fragment()
        self.measure = button("Measure", "timer", self._measure, description="Times up to 20 real steps of this recipe "
                              "in a process of its own, and weighs them. Takes about a minute, and longer where the "
                              "model is compiled.")
        not_here = "device_watts" if self.machine.device == "cpu" else "core_watts"
        self.money = {name: pmui.TextInput(size="small", margin=0, sizing_mode="stretch_width")
                      for name in EDITABLE if name != not_here}
        for name, field in self.money.items():
            field.param.watch(lambda event, name=name: self._price(name, event), "value")
        self.dial = Dial(session, self.machine, self._take)
        self.kind = pmui.Select(label="Device", size="small", margin=0, width=240)
        self.kind.param.watch(lambda *_: self._machines(), "value")
        price = self.money["price"]
        price.param.update(sizing_mode="fixed", width=240)
        self.table = Fragment()
        folds = pmui.Accordion(
            ("Assumptions", stack(grid([field for field in self.money.values() if field is not price]),
                                  self.assumed, gap="12px")),
            ("One dial: from time or money to a recipe", self.dial),
            ("Machines that are not here", stack(actions(self.kind, price), self.table, gap="12px")),
            sizing_mode="stretch_width", margin=0, title_variant="subtitle2", disable_gutters=True, elevation=0,
            sx=FOLD_SX, toggle=False)
        self.folds = folds
        self._view = card(self.room, self.figures, self.words, actions(self.measure, self.state), folds, title="Plan",
                          line="What this recipe takes on this machine, before it is started.", styles={"flex": "none"})

    def __panel__(self) -> Viewable:
        return self._view

    # Reckoning ---------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Reckon anew if anything changed."""
        self.dial.tick()
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
        self.dial.show(known)
        self.room.html, self.figures.html = parts.room(self.plan), parts.figures(self.plan)
        self.room.visible = bool(self.room.html)
        self.words.html, self.assumed.html = parts.words(self.plan), parts.assumptions(self.plan)
        self._machines(known)

    def _of(self, name: str, known: prices.Prices) -> str | None:
        """Which processor or machine a figure belongs to; None where there is none such."""
        if name == "device_watts":
            device = known.machine_of(self.machine.name, self.machine.memory_bytes)
            return device.name if device else None
        return {"core_watts": self.machine.name, "price": str(self.kind.value or "") or None}.get(name, "")

    def _show_prices(self, known: prices.Prices) -> None:
        for name, field in self.money.items():
            of = self._of(name, known)
            field.visible = of is not None
            field.label = f"{EDITABLE[name]} ({UNITS[name].format(known.currency)})"
            text = "" if of is None else f"{known.value(name, of):g}"
            if field.value != text and not field.error_state:
                field.value = text

    def _price(self, name: str, event: Any) -> None:
        field = self.money[name]
        try:
            known = prices.load(self.session.workspace)
            of = self._of(name, known)
            value = float(str(event.new).replace(",", "."))
            if of is not None and f"{value:g}" != f"{known.value(name, of):g}":
                prices.put(self.session.workspace, name, value, of)
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
        self._show_prices(known)
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

    def _press(self, what: str) -> None:
        verb, _, place = what.partition(":")
        if verb == "remedy" and self.plan is not None and int(place) < len(self.plan.remedies):
            self._put(self.plan.remedies[int(place)].changes)
        self.tick()

    def _take(self, changes: dict[str, Any]) -> None:
        self._put(changes)
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
