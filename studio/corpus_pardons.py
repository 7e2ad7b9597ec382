"""Pardons: the rules of the draft that keep what a step would drop, and how a row of the ledger becomes one."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from studio.corpus_entries import Row, Sheet, rule
from studio.lists import Items
from studio.session import Session
from studio.texts import step_name
from studio.views import join, press, txt


class Pardons(Viewer):
    """The rules, each with a button that takes it back; nothing while there are none."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.items = Items(("corpus", "pardons"), session.draft)
        self.list = Sheet(on_press=self._press)
        session.draft.param.watch(lambda *_: self._tell(), "version")
        self._tell()

    def __panel__(self) -> Viewable:
        return self.list

    def add(self, row: Row, verb: str) -> None:
        """Put the rule for a row of the ledger into the draft (`corpus_entries.rule`)."""
        made, present = rule(row, verb), self.items.values()
        if any({k: v for k, v in each.items() if v} == made for each in present):
            self.session.notify("That rule is there already; it counts from the next curation on.")
            return
        self.items.put([*present, made])
        self.session.notify("The rule stands under the steps; it counts from the next curation on.", "success")

    def _press(self, what: str) -> None:
        self.items.remove(int(what.removeprefix("forget ")))

    def _tell(self) -> None:
        rules = [each for each in self.items.values() if isinstance(each, dict)]
        self.list.visible = bool(rules)
        self.list.html = txt('<h4>Pardoned</h4><p class="line">Kept although a step would drop them.</p>'
                             "<table>{}</table>", join(txt('<tr><td>{}</td><td>{}</td><td class="num">{}</td></tr>',
                                      step_name(each.get("step") or "every step"), _words(each),
                                      press("Take back", f"forget {place}", "small"))
                                  for place, each in enumerate(rules)))


def _words(each: dict[str, Any]) -> Any:
    parts = [txt("{} <code>{}</code>", words, each[name]) for name, words in
             (("reason", "reason"), ("id", "document"), ("text", "text with")) if each.get(name)]
    return join([part if not place else txt(", {}", part) for place, part in enumerate(parts)])
