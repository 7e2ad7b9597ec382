"""What pages are built of: safe markup that can be pressed, cards, chips, numbers, and the words for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import panel_material_ui as pmui
import param
from markupsafe import Markup, escape
from panel.custom import JSComponent
from panel.viewable import Viewable

from studio.layout import stack
from studio.theme import CARD_SX, STYLESHEET

__all__ = ["Fragment", "Markup", "age", "banner", "bar", "card", "chip", "duration", "empty", "escape", "heading",
           "icon", "join", "number", "row", "size", "tiles", "txt"]

NOTHING = Markup("")


class Fragment(JSComponent):
    """Markup whose elements with `data-press` are pressed: `on_press` hears the attribute's value.

    Takes only `Markup`, made with `Markup("<b>{}</b>").format(anything)`, which escapes what goes in:
    a plain string, which might hold a user's text, is refused. A change is patched into what stands
    there, so scroll, focus and transitions survive it.
    """

    html = param.ClassSelector(default=Markup(""), class_=Markup, doc="What is shown")
    text = param.String("", doc="The same as the browser gets it; set `html`")
    _rename = {"html": None}

    _esm = """
    function patch(old, fresh) {
      if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return }
      if (old.nodeType !== 1) { if (old.data !== fresh.data) old.data = fresh.data; return }
      for (const {name} of [...old.attributes])
        if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name)
      for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
      const now = [...old.childNodes], next = [...fresh.childNodes]
      next.forEach((node, i) => i < now.length ? patch(now[i], node) : old.appendChild(node))
      now.slice(next.length).forEach(node => node.remove())
    }
    function follow(el) {
      for (const log of el.querySelectorAll("[data-follow]"))
        if (log.dataset.away !== "1") log.scrollTop = log.scrollHeight
    }
    export function render({model, el}) {
      const root = document.createElement("div")
      root.className = "fragment"
      root.innerHTML = model.text
      root.addEventListener("click", event => {
        const hit = event.target.closest("[data-press]")
        if (hit && !hit.disabled) { event.preventDefault(); model.send_msg(hit.dataset.press) }
        const copy = event.target.closest("[data-copy]")
        if (copy) {
          const text = root.querySelector(copy.dataset.copy).textContent, area = document.createElement("textarea")
          area.value = text; area.style.position = "fixed"; area.style.opacity = "0"
          root.appendChild(area); area.select(); document.execCommand("copy"); area.remove()
          const word = copy.textContent; copy.textContent = "Copied"
          setTimeout(() => copy.textContent = word, 1200)
        }
      })
      root.addEventListener("scroll", event => {
        const log = event.target
        if (log.dataset && "follow" in log.dataset)
          log.dataset.away = log.scrollHeight - log.scrollTop - log.clientHeight > 24 ? "1" : "0"
      }, true)
      model.on("text", () => {
        const fresh = root.cloneNode(false)
        fresh.innerHTML = model.text
        patch(root, fresh)
        follow(root)
      })
      model.on("after_render", () => follow(root))
      el.appendChild(root)
    }
    """

    def __init__(self, html: Markup = NOTHING, on_press: Callable[[str], None] | None = None, **params: Any) -> None:
        self._on_press = on_press
        super().__init__(**{"sizing_mode": "stretch_width", "margin": 0, "stylesheets": [STYLESHEET], **params})
        self.html = html

    @param.depends("html", watch=True)
    def _send(self) -> None:
        self.text = str(self.html)

    def _handle_msg(self, message: str) -> None:
        if self._on_press is not None:
            self._on_press(str(message))

    def press(self, value: str) -> None:
        """What a click on the element with this `data-press` does."""
        self._handle_msg(value)


# Words ---------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """A number for reading: 1,234,567 · 0.0003 · 3.142; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.{max(1, digits - 1)}g}"


def size(value: float) -> str:
    """A large number with a letter: 1.2M, 340k."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Seconds for reading: 8 s, 4 min 12 s, 3 h 05 min."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def age(moment: float) -> str:
    """How long ago a time (seconds since the epoch) was."""
    past = time.time() - moment
    return "just now" if past < 10 else f"{duration(past).split(' min ')[0]}{' min' if 60 <= past < 3600 else ''} ago"


# Markup --------------------------------------------------------------------------------------------


def join(parts: Iterable[Any]) -> Markup:
    """Pieces of markup in a row; what is not markup is escaped."""
    return Markup("").join(parts)


def txt(template: str, *values: Any, **named: Any) -> Markup:
    """Markup with values put in, escaped. The template is the program's own; never a user's text."""
    return Markup(template).format(*values, **named)


def icon(name: str) -> Markup:
    return txt('<span class="material-icons" aria-hidden="true">{}</span>', name)


def chip(state: str) -> Markup:
    """A run's state, in its colour."""
    return txt('<span class="chip {0}"><i></i>{0}</span>', state)


def bar(done: float, of: float, *, label: str = "progress") -> Markup:
    """A progress bar; it moves while `of` is unknown."""
    if not of:
        return txt('<div class="bar unknown" role="progressbar" aria-label="{}"><i></i></div>', label)
    share = min(100.0, 100 * done / of)
    return txt('<div class="bar" role="progressbar" aria-label="{}" aria-valuenow="{:.0f}" aria-valuemin="0" '
               'aria-valuemax="100"><i style="width:{:.2f}%"></i></div>', label, share, share)


def tiles(facts: Iterable[tuple[str, Any]]) -> Markup:
    """Labelled numbers side by side."""
    return txt('<dl class="tiles">{}</dl>', join(
        txt("<div><dt>{}</dt><dd>{}</dd></div>", label, value) for label, value in facts))


def banner(kind: str, sentence: Any, action: Markup = NOTHING) -> Markup:
    """A sentence that must be seen. `kind` is info, success, warning or error."""
    sign = {"info": "info", "success": "check_circle", "warning": "warning", "error": "error"}[kind]
    return txt('<div class="banner is-{}" role="status">{}<p>{}</p>{}</div>', kind, icon(sign), sentence, action)


def empty(sentence: str, sign: str = "hourglass_empty") -> Markup:
    """What stands where something will be, and why it is not there yet."""
    return txt('<div class="empty">{}<p>{}</p></div>', icon(sign), sentence)


def press(label: str, value: str, kind: str = "plain", sign: str = "") -> Markup:
    """A small button inside a fragment."""
    return txt('<button type="button" class="press {}" data-press="{}">{}{}</button>',
               kind, value, icon(sign) if sign else "", label)


# Layout --------------------------------------------------------------------------------------------


def card(*objects: Any, title: str = "", line: str = "", **params: Any) -> pmui.Paper:
    """A bordered sheet with an optional title and a line of explanation."""
    inside = list(objects)
    if title:
        inside.insert(0, Fragment(txt('<h2>{}</h2>{}', title, txt('<p class="line">{}</p>', line) if line else "")))
    # Material's sheet is no higher than its column, which is as high as the window: what is longer ran under the next.
    return pmui.Paper(stack(*inside, gap="16px"), **{"variant": "outlined", "elevation": 0, "sx": CARD_SX, "margin": 0,
                                                     "sizing_mode": "stretch_width", **params,
                                                     "styles": {"max-height": "none", **params.get("styles", {})}})


def heading(title: str, line: str) -> Fragment:
    """A page's title and what it is for."""
    return Fragment(txt('<header class="title"><h1>{}</h1><p>{}</p></header>', title, line))


def row(*objects: Any, **params: Any) -> Viewable:
    """Things side by side that wrap where there is no room."""
    return pmui.FlexBox(*objects, **{"gap": "16px", "sizing_mode": "stretch_width", "margin": 0, **params})
