"""TrashView: the runs in the trash, to bring back or to delete for good, which is asked twice."""

from __future__ import annotations

from typing import Any

from panel.viewable import Viewable, Viewer

from engine.runs import trashed
from studio.figures import byte_size
from studio.session import Session
from studio.views import Fragment, Markup, banner, join, press, txt

SHOWN = 30


class TrashView(Viewer):
    """A line below the runs; there is nothing to see while the trash is empty. Call `tick` now and then."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.list = Fragment(on_press=self._pressed)
        self.open = self.sure = False
        self._view = self.list

    def __panel__(self) -> Viewable:
        return self._view

    def tick(self) -> None:
        found = trashed.trashed(self.session.workspace)
        self.list.visible = bool(found)
        if not found:
            self.open = self.sure = False
            return
        runs = f"{len(found)} {'run' if len(found) == 1 else 'runs'}"
        head = press(f"Trash: {runs}", "toggle", "quiet", "expand_less" if self.open else "delete_outline")
        if not self.open:
            self.list.html = head
            return
        rows = join(txt('<li><span>{}</span>{}</li>', trashed.was_called(path),
                        press("Restore", f"restore:{path.name}", "quiet", "restore_from_trash"))
                    for path in found[:SHOWN])
        more = txt("<li>{}</li>", f"and {len(found) - SHOWN} more") if len(found) > SHOWN else Markup("")
        if self.sure:
            size = byte_size(sum(trashed.size_bytes(path) for path in found))
            words = f"Delete {runs}, {size} with their checkpoints, for good? This cannot be undone."
            ask = txt('{}<div class="fixes">{}{}</div>', banner("warning", words),
                      press("Delete for good", "delete", "danger", "delete_forever"), press("Keep", "keep", "quiet"))
        else:
            ask = press("Empty the trash", "ask", "danger", "delete_forever")
        self.list.html = txt('{}<ul class="trash">{}{}</ul>{}', head, rows, more, ask)

    def _pressed(self, what: str) -> None:
        verb, _, name = what.partition(":")
        if verb == "toggle":
            self.open, self.sure = not self.open, False
        elif verb == "restore":
            run = self.session.attempt(trashed.restore, name, self.session.workspace)
            if run is not None:
                self.session.notify(f"{run.name} is back.", "success")
                self.session.run = run.name
        elif verb in ("ask", "keep"):
            self.sure = verb == "ask"
        elif verb == "delete" and self.sure:
            gone = self.session.attempt(trashed.empty, self.session.workspace)
            if gone is not None:
                self.session.notify(f"{gone} runs were deleted.")
        self.tick()
