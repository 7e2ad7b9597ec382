"""Lists: a tuple of configs in the draft, and Many, its rows that are added, removed and put in another order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import panel as pn
import panel_material_ui as pmui

from engine.config import Config, Part, Setting, settings
from studio.draft import Draft, Where
from studio.fields import WIDE
from studio.labels import label, named
from studio.layout import stack
from studio.views import Fragment, txt


class Items:
    """The values of one list of the draft ("corpus.steps"), as they were given or stand by default."""

    def __init__(self, where: Where, draft: Draft) -> None:
        self.where, self.draft = where, draft

    def values(self) -> list[Any]:
        given = self.draft.given(self.where)
        if isinstance(given, list):
            return list(given)
        return [item.dump() if isinstance(item, Config) else item for item in self.draft.effective(self.where)]

    def put(self, values: list[Any]) -> None:
        self.draft.put(self.where, values)

    def add(self, value: dict[str, Any]) -> None:
        self.put([*self.values(), value])

    def remove(self, place: int) -> None:
        values = self.values()
        self.put(values[:place] + values[place + 1:])

    def move(self, place: int, to: int) -> bool:
        """Take the item at a place to another one; False if there is no such place."""
        values = self.values()
        if place == to or not (0 <= place < len(values) and 0 <= to < len(values)):
            return False
        values.insert(to, values.pop(place))
        self.put(values)
        return True


class Many:
    """The items of one setting ("corpus.steps"), each with its own settings."""

    def __init__(self, setting: Setting, where: Where, draft: Draft, part: Callable[..., Any]) -> None:
        self.setting, self.where, self.draft, self._part = setting, where, draft, part
        self.own = Items(where, draft)
        self.wrong = False
        self._shape: list[str] | None = None
        self.items: list[Any] = []
        self.head = Fragment()
        self.rows = stack(gap="10px")
        self.adder = self._adder()
        self.view = stack(self.head, self.rows, self.adder, styles={"gap": "10px", **WIDE})
        self.refresh()

    @property
    def fields(self) -> dict[str, Any]:
        return {str(place): item for place, item in enumerate(self.items)}

    def _adder(self) -> Any:
        cls = self.setting.config
        assert cls is not None
        noun = label(self.setting.name).removesuffix("s").lower()
        if issubclass(cls, Part) and not cls.kind:
            kinds = list(cls.table)
            return pmui.MenuButton(label=f"Add {noun}", icon="add", variant="outlined", size="small", margin=0,
                                   items=[{"label": label(kind), "kind": kind} for kind in kinds],
                                   on_click=lambda item: self.own.add({"kind": item["kind"]}))
        return pmui.Button(label=f"Add {noun}", icon="add", variant="outlined", size="small", margin=0,
                           on_click=lambda *_: self.own.add({}))

    # What the draft says -----------------------------------------------------------------------------

    def refresh(self) -> None:
        values = self.own.values()
        shape = [kind_of(value) for value in values]
        if shape != self._shape:
            self._shape = shape
            self._build(values)
        for item in self.items:
            item.refresh()
        problem = self.draft.problem(self.where) or next(
            (self.draft.problem((*self.where, place)) for place in range(len(values))
             if self.draft.problem((*self.where, place))), "")
        self.wrong = bool(problem) or any(item.wrong for item in self.items)
        words = named(problem[:1].upper() + problem[1:]) if problem else self.setting.words
        self.head.html = txt('<div class="listhead {}"><b>{}</b><p>{}</p></div>', "wrong" if problem else "",
                             label(self.setting.name), words)

    def _build(self, values: list[Any]) -> None:
        cls = self.setting.config
        self.items, rows = [], []
        for place, value in enumerate(values):
            kind = kind_of(value)
            own = cls.table.get(kind, cls) if kind and issubclass(cls, Part) else cls
            item = self._part(own, (*self.where, place), self.draft)
            self.items.append(item)
            rows.append(self._row(place, own, kind, item, len(values)))
        self.rows[:] = rows

    def _row(self, place: int, cls: Any, kind: str, item: Any, of: int) -> Any:
        words = first_sentence(cls) if kind else ""
        title = Fragment(txt('<div class="item"><span class="place">{}</span><div><b>{}</b><p>{}</p></div></div>',
                             place + 1, label(kind or self.setting.name.removesuffix("s")), words))
        buttons = [pmui.IconButton(icon=sign, size="small", margin=0, description=word, disabled=off,
                                   on_click=lambda *_, act=act: act())
                   for sign, word, off, act in (
                       ("arrow_upward", "Earlier", place == 0, lambda: self.own.move(place, place - 1)),
                       ("arrow_downward", "Later", place == of - 1, lambda: self.own.move(place, place + 1)),
                       ("delete_outline", "Remove", False, lambda: self.own.remove(place)))]
        inside: list[Any] = [pn.Row(title, *buttons, sizing_mode="stretch_width", margin=0)]
        if any(True for _ in settings(cls)):
            inside.append(item.view)
        return pmui.Paper(*inside, variant="outlined", elevation=0, margin=0, sizing_mode="stretch_width",
                          sx={"padding": "12px 16px", "borderRadius": "10px", "gap": "10px"})


def first_sentence(cls: type) -> str:
    """What a part is, with its source: the first sentence of its docstring."""
    return re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join((cls.__doc__ or "").split()), maxsplit=1)[0]


def kind_of(value: Any) -> str:
    """The kind of a part that was given as values, or by its bare name."""
    return value if isinstance(value, str) else str(value.get("kind", "")) if isinstance(value, dict) else ""
