"""The steps of the corpus as a list: dragged, switched, tuned, added, removed; and tried on a sample all along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from panel.viewable import Viewable, Viewer

from engine.corpus import STEPS
from engine.corpus.presets import PRESETS
from studio.background import Latest
from studio.corpus_entries import Row, Sheet
from studio.corpus_step import State, StepBody, StepRow, Told
from studio.labels import label, named
from studio.layout import stack
from studio.lists import Items, first_sentence, kind_of
from studio.session import Session
from studio.texts import step_title
from studio.views import banner, empty, join, number, press, txt

SAMPLE = 1000
"""Documents that the steps are tried on."""

QUIET_SECONDS = 0.5
PRESET_WORDS = {
    "web": "Pages of the web, as HTML or text.", "books": "Long texts, cut into passages that are judged one by one.",
    "code": "Source files: blanks stay as they are.", "chat": "Short messages and conversations.",
    "none": "Nothing is done: documents go on as they were read."}


class Steps(Viewer):
    """The list. `on_pardon(row, verb)` hears of a row's button, `on_sample(found)` of each finished trial."""

    def __init__(self, session: Session, on_pardon: Callable[[Row, str], None],
                 on_sample: Callable[[dict[str, Any] | None], None]) -> None:
        super().__init__()
        self.session, self._on_pardon, self._on_sample = session, on_pardon, on_sample
        self.items = Items(("corpus", "steps"), session.draft)
        self.trial = Latest(QUIET_SECONDS)
        self.head, self.menu = Sheet(on_press=self.press), Sheet(on_press=self.press, visible=False)
        self.note, self.foot = Sheet(on_press=self.press, visible=False), Sheet()
        self.rows: list[StepRow] = []
        self.column = stack(gap="8px")
        self._shown: str = ""
        self._shape: list[str] | None = None
        self._states: list[State] = []
        self._undo: tuple[str, list[Any]] | None = None
        self._found: dict[str, Any] | None = None
        self._view = stack(self.head, self.menu, self.note, self.column, self.foot, gap="12px")
        session.draft.param.watch(lambda *_: self.refresh(), "version")
        self.refresh()

    def __panel__(self) -> Viewable:
        return self._view

    # The sample ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Try the steps again if they changed and the person stopped typing; show what came out of it."""
        if not self.session.draft.wrong("corpus"):
            config, workspace = self.session.draft.settled.corpus, self.session.workspace

            def work() -> Any:
                from engine.corpus.pipeline import preview  # imports daft

                return preview(config, workspace, SAMPLE)

            if self.trial.ask(config.dump(), work):
                self.refresh()
        if over := self.trial.answer():
            self._tried(*over)

    def _tried(self, found: dict[str, Any] | None, problem: str) -> None:
        self._found = found
        told = iter(found["steps"] if found else ())
        for place, value in enumerate(self.items.values()):
            state = self._states[place]
            if found is None or not _enabled(value):
                state.told = None
                continue
            tally = next(told)
            state.told = Told(tally, [row for row in found["ledger"] if row["place"] == _active(self.items, place)])
        self.foot.html = banner("error", problem) if problem else self._sum(found)
        self.refresh()
        self._on_sample(found)

    @staticmethod
    def _sum(found: dict[str, Any] | None) -> Any:
        return banner("warning", found["problem"]) if found and found["problem"] else txt("")

    # What the person does ------------------------------------------------------------------------------

    def press(self, what: str) -> None:
        verb, _, rest = what.partition(" ")
        if verb == "move":
            self.move(*map(int, rest.split()))
        elif verb == "remove":
            self.remove(int(rest))
        elif verb == "switch":
            place = int(rest)
            self.session.draft.put((*self.items.where, place, "enabled"), not _enabled(self.items.values()[place]))
        elif verb == "open":
            self._states[int(rest)].open ^= True
            self.refresh()
        elif verb in ("steps", "presets"):
            self._menu("" if self._shown == verb else verb)
        elif verb == "add":
            self._change([*self.items.values(), {"kind": rest}], [*self._states, State(open=True)])
            self._menu("")
        elif verb == "preset":
            self.take(rest)
        elif verb == "undo" and self._undo is not None:
            values, self._undo = self._undo[1], None
            self._change(values, [State() for _ in values])
        elif verb == "again":
            self.trial.again()
            self.refresh()

    def move(self, place: int, to: int) -> None:
        states = list(self._states)
        if place == to or not 0 <= to < len(states) or not 0 <= place < len(states):
            return
        states.insert(to, states.pop(place))
        values = self.items.values()
        values.insert(to, values.pop(place))
        self._change(values, states)
        self.rows[to].head.focused += 1

    def remove(self, place: int) -> None:
        values, states = self.items.values(), list(self._states)
        self._undo = (f"{step_title(kind_of(values[place]))} was removed.", list(values))
        self._change(values[:place] + values[place + 1:], states[:place] + states[place + 1:])

    def take(self, preset: str) -> None:
        """Put a preset's steps in the place of those that are there."""
        old = self.items.values()
        self._undo = (f"The preset {preset} took the place of {len(old)} step{'' if len(old) == 1 else 's'}.", old)
        self._menu("")
        self._change([dict(step) for step in PRESETS[preset]], [State() for _ in PRESETS[preset]])

    def _change(self, values: list[Any], states: list[State]) -> None:
        self._states, self._shape = states, [kind_of(value) for value in values]
        self.items.put(values)
        self.refresh()

    # What is shown -------------------------------------------------------------------------------------

    def refresh(self) -> None:
        values = self.items.values()
        shape = [kind_of(value) for value in values]
        if shape != self._shape:                     # another recipe: nothing is known of its steps
            self._shape, self._states, self._undo = shape, [State() for _ in values], None
        while len(self.rows) < len(values):
            self.rows.append(StepRow(self.press))
        if len(self.column) != len(values):
            self.column[:] = [row.view for row in self.rows[:len(values)]]
        wrong, running = self.session.draft.wrong("corpus"), self.trial.busy
        stale = running or bool(wrong)
        for place, (value, kind, state) in enumerate(zip(values, shape, self._states, strict=True)):
            self._show(place, len(values), value, kind, state, stale)
        self._tell(running, bool(wrong), len(values))

    def _show(self, place: int, of: int, value: Any, kind: str, state: State, stale: bool) -> None:
        where, row = (*self.items.where, place), self.rows[place]
        dotted = ".".join(map(str, where))
        problem = next((f"{label(p.field.removeprefix(dotted).strip('.') or kind)} {named(p.sentence)}"
                        for p in self.session.draft.problems if f"{p.field}.".startswith(f"{dotted}.")), "")
        if state.open and kind in STEPS:
            if state.body is None or state.body.where != where:
                state.body = StepBody(kind, where, self.session.draft, self._on_pardon)
            state.body.refresh()
            state.body.show(state.told, _enabled(value), stale)
            if row.inside.objects != [state.body.view]:
                row.inside.objects = [state.body.view]
        row.show(place, of, kind, _enabled(value), state, stale=stale, problem=problem)

    def _tell(self, running: bool, wrong: bool, of: int) -> None:
        found = self._found
        if wrong:
            told = txt("Mend what is marked; then the sample is tried again.")
        elif running:
            told = txt('<i class="spin"></i>trying it on the sample')
        elif found:
            read = found["steps"][0]["documents_in"] if found["steps"] else found["documents"]
            cut = any(step["added"] for step in found["steps"])
            told = txt("{} sample documents from {} {}: <b>{} {}</b>", number(read), number(found["files"]),
                       "file" if found["files"] == 1 else "files", number(found["documents"]),
                       "left after cutting" if cut else "kept")
        else:
            told = txt("")
        self.head.html = txt('<div class="bar-line">{}{}<span class="told" role="status">{}</span>{}</div>',
                             press("Add a step", "steps", "chosen" if self._shown == "steps" else "plain", "add"),
                             press("Presets", "presets", "chosen" if self._shown == "presets" else "plain",
                                   "playlist_add_check"), told, press("Try again", "again", "quiet", "refresh"))
        self.note.visible = self._undo is not None
        if self._undo:
            self.note.html = txt('<p class="note">{} {}</p>', self._undo[0], press("Undo", "undo", "small", "undo"))
        if not of and not self.foot.html:
            self.foot.html = empty("No steps: documents go into the dataset as they were read.", "playlist_remove")
        elif of and "playlist_remove" in self.foot.html:
            self.foot.html = txt("")

    def _menu(self, which: str) -> None:
        self._shown, self.menu.visible = which, bool(which)
        if which == "steps":
            self.menu.html = txt('<div class="menu">{}</div>', join(
                txt('<button type="button" data-press="add {}"><b>{}</b><small>{}</small></button>', kind,
                    step_title(kind), first_sentence(cls).replace("`", "")) for kind, cls in STEPS.items()))
        elif which == "presets":
            self.menu.html = txt('<div class="menu">{}</div>', join(
                txt('<button type="button" data-press="preset {}"><b>{}</b><small>{}</small><span class="in">{}</span>'
                    "</button>", name, label(name), PRESET_WORDS.get(name, ""),
                    join(txt("<i>{}</i>", step_title(step["kind"])) for step in steps))
                for name, steps in PRESETS.items()))
        self.refresh()


def _enabled(value: Any) -> bool:
    return not isinstance(value, dict) or bool(value.get("enabled", True))


def _active(items: Items, place: int) -> int:
    """The place of a step among those that are done."""
    return sum(_enabled(value) for value in items.values()[:place])
