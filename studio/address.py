"""Address: page and selection in the browser's address, so that a link, a reload and the back button find them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode

import panel as pn
import param
from panel.custom import JSComponent

from studio.session import Session

SHOWN = ("page", "run", "others", "bundle")


class Address(JSComponent):
    """An unseen component that keeps a session and the address alike. Panel's own doesn't hear the back button."""

    search = param.String("", doc="The part of the address from the question mark on")

    _esm = """
    export function render({model, el}) {
      el.style.display = "none"
      const back = () => { model.search = window.location.search }
      window.addEventListener("popstate", back)
      model.on("search", () => {
        if (model.search !== window.location.search)
          window.history.pushState({}, "", window.location.pathname + model.search)
      })
      model.on("remove", () => window.removeEventListener("popstate", back))
    }
    """

    def __init__(self, session: Session, **params: Any) -> None:
        found = pn.state.location.search if pn.state.location is not None else ""
        super().__init__(search=found or "", width=0, height=0, margin=0, **params)
        self.session = session
        self._read()
        self.param.watch(lambda *_: self._read(), "search")
        session.param.watch(lambda *_: self._write(), list(SHOWN))

    def _read(self) -> None:
        asked = parse_qs(self.search.removeprefix("?"))
        if asked:
            self.session.param.update(**{name: asked.get(name, [""])[0] for name in SHOWN if name != "page"},
                                      page=asked.get("page", ["home"])[0])

    def _write(self) -> None:
        self.search = "?" + urlencode({name: getattr(self.session, name) for name in SHOWN
                                       if getattr(self.session, name)})
