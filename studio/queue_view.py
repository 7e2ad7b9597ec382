"""QueueView: what waits for its turn, with what a person can do about it."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from engine.runs import Run, queue
from engine.runs.queue import Entry
from studio.layout import later
from studio.session import Session
from studio.views import Fragment, Markup, card, chip, icon, join, press, txt


class QueueView(Viewer):
    """The queue of the workspace; there is nothing to see while nothing waits. Call `tick` now and then."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.list = Fragment(on_press=self._pressed)
        self._view = later(card(
            self.list, title="Queue", line="One run at a time on each device. It goes on without the studio and after "
            "a restart; a run that fails doesn't hold up the others."))

    def __panel__(self) -> Viewable:
        return self._view

    def tick(self) -> None:
        found = queue.entries(self.session.workspace)
        self._view.visible = any(not entry.begun for entry in found)
        self.list.html = rows(found)
        if found:
            queue.wake(self.session.workspace)  # its process may have been killed

    def _pressed(self, what: str) -> None:
        verb, _, name = what.partition(":")
        run = Run(self.session.workspace.place("runs") / name)
        order = [entry.run.name for entry in queue.entries(self.session.workspace) if not entry.begun]
        if verb == "pick":
            self.session.run = name
        elif verb in ("up", "down") and name in order:
            self.session.attempt(queue.move, run, order.index(name) + (1 if verb == "down" else -1))
        elif verb in ("hold", "release"):
            self.session.attempt(queue.change, run, held=verb == "hold")
        elif verb == "soon":
            self.session.attempt(queue.change, run, start_at=0.0)
        elif verb == "now":
            self.session.attempt(queue.start_now, run)
        elif verb == "remove":
            self.session.attempt(queue.remove, run)
            self.session.notify(f"{name} was taken out of the queue; it is still among the runs.")
        self.tick()


def rows(found: list[Entry]) -> Markup:
    """The queue as a list: what has its turn, then what waits, in order."""
    last = sum(not entry.begun for entry in found) - 1
    place, made = -1, []
    for entry in found:
        place += not entry.begun
        made.append(_row(entry, place, last))
    return txt('<ol class="queue">{}</ol>', join(made))


def _row(entry: Entry, place: int, last: int) -> Markup:
    name = entry.run.name
    title = txt('<button type="button" class="name" data-press="pick:{0}">{0}</button>', name)
    if entry.begun:
        return txt('<li class="turn"><span class="place">{}</span>{}<span class="told">on {}</span>{}</li>',
                   icon("play_arrow"), title, entry.device, chip(entry.run.status().state))
    later, device = entry.later, f"on {entry.device}" * (entry.device != "auto")
    told = ", ".join(filter(None, ["held" if entry.held else "waits", later, device]))
    buttons = join([
        _sign("arrow_upward", f"up:{name}", "Earlier", off=place == 0),
        _sign("arrow_downward", f"down:{name}", "Later", off=place == last),
        press("Release", f"release:{name}", "quiet", "play_circle") if entry.held
        else press("Hold", f"hold:{name}", "quiet", "pause_circle"),
        press("At its turn", f"soon:{name}", "quiet", "schedule") if later else Markup(""),
        press("Start now", f"now:{name}", "quiet", "bolt"),
        press("Remove", f"remove:{name}", "quiet", "close")])
    return txt('<li class="{}"><span class="place">{}</span>{}<span class="told">{}</span><span class="buttons">{}'
               "</span></li>", "held" if entry.held else "", place + 1, title, told, buttons)


def _sign(sign: str, value: str, words: str, *, off: bool) -> Markup:
    return txt('<button type="button" class="press quiet" data-press="{}" title="{}" aria-label="{}"{}>{}</button>',
               value, words, words, Markup(" disabled") if off else "", icon(sign))
