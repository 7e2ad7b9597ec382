"""One step of the corpus: a row that is dragged, switched and opened, and inside it the form and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import panel_material_ui as pmui

from engine.config import settings
from engine.corpus import STEPS
from studio.corpus_entries import STYLES, Row, Sheet, entries, turn
from studio.corpus_figures import s_curve
from studio.draft import Draft, Where
from studio.drag import Draggable
from studio.forms import part
from studio.layout import picture, stack
from studio.lists import first_sentence
from studio.texts import reason_words, reasons, step_title
from studio.views import Markup, icon, join, number, press, txt

AT_ONCE = 3
"""Examples of what a step did that are shown together."""

BODY_SX = {"display": "grid", "gridTemplateColumns": {"xs": "minmax(0, 1fr)", "lg": "minmax(0, 5fr) minmax(0, 6fr)"},
           "gap": "20px 28px", "alignItems": "start", "padding": "4px 14px 16px 14px",
           "& > *": {"width": "100%", "minWidth": 0}}
PAPER_SX = {"borderRadius": "10px", "borderColor": "divider", "overflow": "visible"}


@dataclass
class Told:
    """What a step did on the sample: its figures, and rows of the ledger."""

    tally: Mapping[str, Any]
    rows: Sequence[Row]


@dataclass
class State:
    """What goes with a step wherever it is moved."""

    open: bool = False
    told: Told | None = None
    body: StepBody | None = field(default=None, repr=False)


class StepRow:
    """The row at one place of the list. Which step stands there may change; `show` says which."""

    def __init__(self, on_press: Callable[[str], None]) -> None:
        self.head = Draggable(on_press=on_press, stylesheets=STYLES)
        self.inside = stack(visible=False)
        self.view = pmui.Paper(self.head, self.inside, variant="outlined", elevation=0, margin=0,
                               sizing_mode="stretch_width", sx=PAPER_SX)

    def show(self, place: int, of: int, kind: str, enabled: bool, state: State, *, stale: bool, problem: str) -> None:
        cls = STEPS.get(kind)
        name = step_title(kind)
        words = txt('<small class="wrong">{}</small>', problem) if problem else txt(
            "<small>{}</small>", first_sentence(cls) if cls else "")
        tools = join([
            _tool("arrow_upward", f"move {place} {place - 1}", f"Move {name} up", off=place == 0),
            _tool("arrow_downward", f"move {place} {place + 1}", f"Move {name} down", off=place == of - 1),
            _tool("delete_outline", f"remove {place}", f"Remove {name}"),
            _tool("expand_less" if state.open else "expand_more", f"open {place}",
                  f"Close {name}" if state.open else f"Open {name}", expanded=_yes(state.open))])
        self.head.html = txt(
            '<div class="step {}" data-place="{}"><span class="grip" role="button" tabindex="0" draggable="true" '
            'data-grip="{}" aria-label="{}, step {} of {}: drag it, or press the arrow keys" '
            'title="Drag, or press ↑ ↓">{}</span>'
            '<button type="button" class="switch" role="switch" aria-checked="{}" aria-label="{}" '
            'data-press="switch {}" title="{}"></button><button type="button" class="what" data-press="open {}"><b>{}'
            '</b>{}</button>{}<div class="tools">{}</div></div>',
            "" if enabled else "off", place, place, name, place + 1, of, icon("drag_indicator"), _yes(enabled),
            f"{name} is done", place, "Switch off; its settings stay" if enabled else "Switch on", place, name, words,
            self._count(enabled, state.told, stale), tools)
        self.inside.visible = state.open and cls is not None

    @staticmethod
    def _count(enabled: bool, told: Told | None, stale: bool) -> Markup:
        if not enabled:
            return txt('<div class="count"><span class="none">off</span></div>')
        if told is None:
            return txt('<div class="count"><span class="none">{}</span></div>', "…" if stale else "")
        tally = told.tally
        came, went, dropped = tally["documents_in"], tally["documents_out"], sum(tally["reasons"].values())
        did = [txt('<span class="{}">{}</span>', kind, words) for kind, words, many in (
            ("lost", f"−{number(dropped)} dropped", dropped), ("changed", f"{number(tally['edited'])} edited",
                                                              tally["edited"]),
            ("", f"+{number(tally['added'])} by cutting", tally["added"]),
            ("", f"{number(tally['pardoned'])} pardoned", tally["pardoned"]),
            ("", f"{number(tally['tagged'])} tagged", tally["tagged"])) if many]
        return txt('<div class="count {}"><div class="flow">{}<span>→</span><b>{}</b></div><div class="share">'
                   '<i style="width:{:.2f}%"></i></div><div class="did">{}</div></div>',
                   "stale" if stale else "", number(came), number(went),
                   100 * (1 - dropped / (came + tally["added"])) if came else 0,
                   join(did) if did else "nothing changed" if came else "nothing came here")


class StepBody:
    """The settings of a step, and what it drops and edits on the sample, with the changes."""

    def __init__(self, kind: str, where: Where, draft: Draft, on_pardon: Callable[[Row, str], None]) -> None:
        self.kind, self.where, self.draft, self._on_pardon = kind, where, draft, on_pardon
        cls = STEPS[kind]
        self.form = part(cls, where, draft, (), ("enabled",))
        self.evidence = Sheet(on_press=self._press)
        doc = Sheet(txt('<p class="doc">{}</p>', " ".join((cls.__doc__ or "").split()).replace("`", "")))
        own = [self.form.view] if any(s.name != "enabled" for s in settings(cls)) else [
            Sheet(txt('<p class="nothing">There is nothing to set.</p>'))]
        self.curve, self._drawn = picture(height=230), None
        left = stack(doc, *own, gap="16px")
        if kind == "near_duplicates":
            words = txt('<h4>Which pairs are found</h4><p class="line">The chance that a pair is called '
                        "near-duplicate, by how similar it is (the S-curve of MinHash).</p>")
            left.append(stack(Sheet(words), self.curve, gap="4px"))
        self.view = pmui.FlexBox(left, self.evidence, sizing_mode="stretch_width", margin=0, sx=BODY_SX)
        self._told: Told | None = None
        self.chosen, self.first = "", 0

    def refresh(self) -> None:
        """The draft changed."""
        self.form.refresh()
        if self.kind == "near_duplicates":
            step = self.draft.effective(self.where)
            if self._drawn != (step.similarity, step.num_hashes):
                self._drawn = (step.similarity, step.num_hashes)
                self.curve.object = s_curve(*self._drawn)

    def show(self, told: Told | None, enabled: bool, stale: bool) -> None:
        """What the step did on the sample."""
        if told is not self._told:
            self._told, self.first = told, 0
        if not enabled:
            self.evidence.html = txt('<h4>On the sample</h4><p class="nothing">This step is switched off: documents go '
                                     "on as they came.</p>")
        elif told is None:
            self.evidence.html = txt('<h4>On the sample</h4><p class="nothing">{}</p>', "The sample is being tried …"
                                     if stale else "There is no sample yet.")
        else:
            self._show(told)

    def _show(self, told: Told) -> None:
        kinds: dict[str, int] = {}
        for row in told.rows:
            name = row["reason"] if row["action"] == "dropped" and row["reason"] else row["action"]
            kinds[name] = kinds.get(name, 0) + 1
        if self.chosen not in kinds:
            self.chosen = ""
        rows = [row for row in told.rows if self.chosen in ("", row["reason"], row["action"])]
        shown = rows[self.first:self.first + AT_ONCE]
        tally = told.tally
        full = sum(tally["reasons"].values()) + tally["edited"] + tally["pardoned"] + tally["tagged"]
        choices = txt('<div class="choices">{}</div>', join(
            press(reason_words(value) or "All", f"kind {value}", "small chosen" if value == self.chosen
                  else "small plain") for value in ("", *kinds))) if len(kinds) > 1 else ""
        few = txt('<p class="more">Of each kind 20 are shown here; after Curate the ledger has them all.</p>') if (
            full > len(told.rows)) else ""
        counted = reasons({"step": "Dropped", "reasons": tally["reasons"]})
        # what a step tells of documents that it leaves as they are, such as their language, is no change
        title = "Changes made" if tally["edited"] or tally["added"] else "Told"
        changes = reasons({"step": title, "reasons": tally["kinds"]}, drops=False)
        nothing = txt('<p class="nothing">{}</p>', "It drops and edits nothing here." if tally["documents_in"] else
                      "No document comes as far as this step.") if not told.rows else ""
        self.evidence.html = join([
            txt('<div class="stack"><div class="stack">{}{}</div>{}', counted, changes, txt("")) if counted or changes
            else txt('<div class="stack"><h4>On the sample</h4>'),
            nothing, choices, entries(shown, self.first, named=False) if shown else "",
            turn(self.first, len(shown), self.first + AT_ONCE < len(rows), number(len(rows))), few, txt("</div>")])
        self._rows = rows

    def _press(self, what: str) -> None:
        verb, _, value = what.partition(" ")
        if verb in ("pardon", "reason"):
            self._on_pardon(self._rows[int(value)], verb)
            return
        if verb == "kind":
            self.chosen, self.first = value, 0
        elif verb in ("earlier", "later"):
            self.first = max(0, self.first + (AT_ONCE if verb == "later" else -AT_ONCE))
        if self._told is not None:
            self._show(self._told)


def _tool(sign: str, what: str, words: str, *, off: bool = False, expanded: str = "") -> Markup:
    more = txt(' aria-expanded="{}"', expanded) if expanded else Markup(" disabled") if off else ""
    return txt('<button type="button" class="tool" data-press="{}" aria-label="{}" title="{}"{}>{}</button>',
               what, words, words, more, icon(sign))


def _yes(value: bool) -> str:
    return "true" if value else "false"
