"""Serve card: let a model answer other programs, see where it answers, and stop it."""

from __future__ import annotations

import json
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.runs import serving
from engine.runs.sources import Source
from studio.fields import whole
from studio.layout import actions, button
from studio.session import Session
from studio.texts import Text
from studio.views import age, banner, card, join, press, txt

STATES = {"starting": "queued", "running": "running", "ended": "stopped"}


class ServeCard(Viewer):
    """Every server of the workspace, whoever started it. `choose` says which model would be served; `tick` looks."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        self.source: Source | None = None
        self._asked: set[str] = set()       # to stop, until they have
        self.port = pmui.TextInput(label="Port", placeholder="any free one", size="small", margin=0, width=140)
        self.key = pmui.PasswordInput(label="Key", placeholder="none", size="small", margin=0, width=190)
        self.go = button("Serve", "dns", self.begin)
        self.shown = Text(on_press=self._press)
        self.card = card(actions(self.port, self.key, self.go), self.shown, title="Serve",
                         line="OpenAI's completions and chat interface on this machine, in a process of its own: it "
                              "goes on when the browser or the studio is closed.")

    def __panel__(self) -> Viewable:
        return self.card

    def choose(self, source: Source | None) -> None:
        self.source = source
        self.go.disabled = source is None or source.scores

    def begin(self) -> None:
        port = (self.port.value_input or self.port.value or "").strip()
        wrong = bool(port) and whole(port) is None
        self.port.param.update(error_state=wrong, helper_text="Must be a whole number, or empty" if wrong else "")
        if wrong:
            return
        if self.source is not None:
            key = self.key.value_input or self.key.value or ""
            self.session.attempt(serving.start, self.source, self.session.workspace, whole(port) or 0, key)
            self.tick()

    def _press(self, what: str) -> None:
        for served in serving.listing(self.session.workspace):
            if what == f"stop {served.name}":
                self.session.attempt(serving.stop, served, self.session.workspace)
                self._asked.add(served.name)
            elif what == f"clear {served.name}":
                self.session.attempt(serving.clear, served, self.session.workspace)
        self.tick()

    def tick(self) -> None:
        found = serving.listing(self.session.workspace)
        self._asked &= {served.name for served in found if served.state != "ended"}
        html = join(self._one(served) for served in found)
        if html != self.shown.html:
            self.shown.html = html

    def _one(self, served: serving.Served) -> Any:
        stopping = served.name in self._asked
        act = press("Clear", f"clear {served.name}", "quiet") if served.state == "ended" else (
            txt('<span class="more">stopping …</span>') if stopping else
            press("Stop", f"stop {served.name}", "danger", "stop"))
        head = txt('<div class="runhead"><div class="top"><b>{}</b>{}<span class="buttons">{}</span></div></div>',
                   served.label, _state(served), act)
        parts = [head]
        if served.state == "running":
            parts.append(txt('<div class="copyable"><code class="where">{}</code><button type="button" class="press" '
                             'data-copy="#served-{} .where">Copy</button></div>', served.address, served.name))
            parts += [_code(name, served, text) for name, text in (("curl", curl(served)), ("python", python(served)))]
        elif served.problem:
            parts.append(banner("error", served.problem))
        return txt('<div class="stack gap" id="served-{}">{}</div>', served.name, join(parts))


def _state(served: serving.Served) -> Any:
    since = f", begun {age(served.started)}" if served.state != "ended" else ""
    word = {"starting": "starting", "running": "answers", "ended": "ended"}[served.state]
    return join([txt('<span class="chip {}"><i></i>{}</span>', STATES[served.state], word),
                 txt('<span class="more" style="margin:0">{}{}</span>', "with a key" if served.key else "no key",
                     since)])


def _code(name: str, served: serving.Served, text: str) -> Any:
    titles = {"curl": "curl", "python": "Python, with the package openai"}
    return txt('<details class="snippet"><summary>{2}</summary><div class="code command"><pre id="{0}-{1}">{3}</pre>'
               '<button type="button" class="press" data-copy="#{0}-{1}">Copy</button></div></details>',
               name, served.name, titles[name], text)


def curl(served: serving.Served) -> str:
    """A request that can be pasted into a shell. Of a key it says where it is, since nobody kept it."""
    key = ' \\\n  -H "Authorization: Bearer $STUDIO_API_KEY"' if served.key else ""
    path = "chat/completions" if served.answers else "completions"
    ask: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]} if served.answers else {
        "prompt": "It was"}
    body = json.dumps({"model": served.model, **ask, "max_tokens": 64})
    return f"curl {served.address}/{path} \\\n  -H \"Content-Type: application/json\"{key} \\\n  -d '{_quoted(body)}'"


def _quoted(text: str) -> str:
    return text.replace("'", "'\\''")


def python(served: serving.Served) -> str:
    """The same in Python."""
    key = 'os.environ["STUDIO_API_KEY"]' if served.key else '"none"'
    ask, said = ('client.chat.completions.create(\n    messages=[{"role": "user", "content": "Hello"}], ',
                 "answer.choices[0].message.content") if served.answers else (
        'client.completions.create(\n    prompt="It was", ', "answer.choices[0].text")
    return (f"{'import os' + chr(10) * 2 if served.key else ''}from openai import OpenAI\n\n"
            f"client = OpenAI(base_url={json.dumps(served.address)}, api_key={key})\n"
            f"answer = {ask}model={json.dumps(served.model)}, max_tokens=64)\nprint({said})")
