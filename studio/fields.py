"""Field: one setting as a widget, with its unit, help, reset and error."""

from __future__ import annotations

from typing import Any, get_args

import panel as pn
import panel_material_ui as pmui

from engine.config import Setting
from studio.draft import Draft, Where
from studio.labels import label, named

WIDE = {"grid-column": "1 / -1"}  # a field that takes a whole row of its form


def _titled(setting: Setting) -> str:
    """The label with its unit, unless it ends in it."""
    words = label(setting.name)
    return words if not setting.unit or words.lower().endswith(setting.unit) else f"{words} ({setting.unit})"


class Field:
    """One setting of the draft at a place; `refresh` after the draft changed shows value and error."""

    def __init__(self, setting: Setting, where: Where, draft: Draft) -> None:
        self.setting, self.where, self.draft = setting, where, draft
        self.wrong = False
        self._quiet = False
        self.widget = self._widget()
        self.reset: Any = None  # a button, once the value is another than the default
        self.view = pn.Row(self.widget, sizing_mode="stretch_width", margin=0)
        if self.setting.many:
            self.view.styles = WIDE
        for name in ("value", "value_input"):
            if name in self.widget.param:
                self.widget.param.watch(self._typed, name)
        self.refresh()

    @property
    def _options(self) -> tuple[Any, ...]:
        return self.setting.choices or (get_args(self.setting.type) if self.setting.many else ())

    def _widget(self) -> Any:
        setting = self.setting
        # Numbers are text fields: a number widget can't be typed 3e-4 into, and silently clips to its limits.
        shared: dict[str, Any] = {"label": _titled(setting),
                                  "sizing_mode": "stretch_width", "margin": 0, "size": "small"}
        if setting.type is bool:
            return pmui.Switch(**shared, description=setting.words)
        if setting.choices and not setting.many:
            options = {"none": None} if setting.optional else {}
            return pmui.Select(options={**options, **{str(c): c for c in setting.choices}}, **shared)
        if setting.many and self._options:
            del shared["size"]  # there it counts rows
            return pmui.MultiChoice(options=list(self._options), **shared)
        if setting.many:
            return pmui.TextAreaInput(rows=2, auto_grow=True, max_rows=8, **shared)
        return pmui.TextInput(placeholder="none" if setting.optional else "", **shared)

    # The person typed --------------------------------------------------------------------------------

    def _typed(self, event: Any) -> None:
        if self._quiet:
            return
        value = self._parse(event.new)
        if value == self.draft.effective(self.where) and self.draft.given(self.where) is ...:
            return
        self.draft.put(self.where, value)

    def _parse(self, shown: Any) -> Any:
        """What was typed as a value of the draft; text that is no number stays text, for the config to refuse."""
        setting = self.setting
        if setting.many:
            lines = shown.split("\n") if isinstance(shown, str) else sorted(shown, key=self._options.index)
            return [line for line in lines if line != ""]
        if not isinstance(shown, str) or setting.choices:
            return shown
        if setting.type in (int, float):
            text = shown.strip().replace("_", "").replace(",", "")
            if not text and setting.optional:
                return None
            for kind in (int, float):
                try:
                    return kind(text)
                except ValueError:
                    continue
            return shown
        return None if setting.optional and not shown else shown

    # The draft changed -------------------------------------------------------------------------------

    def refresh(self) -> None:
        given, problem = self.draft.given(self.where), self._problem()
        value = self.draft.effective(self.where) if given is ... else given
        if isinstance(value, tuple):
            value = list(value)
        shown = getattr(self.widget, "value_input", self.widget.value)
        if self._parse(shown if shown is not None else "") != value or self.widget.value is None:
            self._show(value)
        self.wrong = bool(problem)
        if "helper_text" in self.widget.param:
            words = problem[:1].upper() + problem[1:] if problem else self.setting.words
            self.widget.param.update(error_state=self.wrong, helper_text=words)
        self._offer_reset(given is not ... and given != self._default())

    def _offer_reset(self, changed: bool) -> None:
        if changed and self.reset is None:
            self.reset = pmui.IconButton(icon="undo", size="small", margin=(2, 0, 0, 2),
                                         on_click=lambda *_: self.draft.drop(self.where))
            self.view.append(self.reset)
        if changed:
            self.reset.description = f"Back to {_text(self._default())}"
        if self.reset is not None:
            self.reset.visible = changed

    def _problem(self) -> str:
        if self.setting.many:  # a tuple's wrong item is shown at the tuple
            dotted = ".".join(map(str, self.where))
            return named(next((p.sentence for p in self.draft.problems if p.field.startswith(dotted)), ""))
        return named(self.draft.problem(self.where))

    def _default(self) -> Any:
        default = self.draft.default(self.where)
        return list(default) if isinstance(default, tuple) else default

    def _show(self, value: Any) -> None:
        self._quiet = True
        try:
            if isinstance(self.widget, (pmui.Switch,)):
                self.widget.value = bool(value)
            elif isinstance(self.widget, pmui.TextAreaInput):
                self._text_shown("\n".join(map(str, value)))
            elif isinstance(self.widget, pmui.TextInput):
                self._text_shown(_text(value))
            elif isinstance(self.widget, pmui.MultiChoice) or value in self.widget.options.values():
                self.widget.value = value
        finally:
            self._quiet = False

    def _text_shown(self, text: str) -> None:
        self.widget.param.update(value=text, value_input=text)


def _text(value: Any) -> str:
    """A value as a person would type it: 0.0003, 1e-08, 128."""
    if value is None or value is ...:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def whole(typed: str) -> int | None:
    """The whole number that was typed; None if it is none, or one of more digits than anything here has."""
    return int(typed) if typed.isdecimal() and len(typed) <= 18 else None
