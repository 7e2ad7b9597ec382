"""Forms: a Config class becomes widgets with its words, units and limits, and errors beside the field.

Everything on screen is derived from `engine.config.settings`: a setting that is added to a config
stands in its form at once, with its help. A wrong value stays as it was typed, beside its error,
and the rest of the form goes on working.
"""

from __future__ import annotations

from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable, Viewer

from engine.config import Config, Part, Setting, settings
from engine.recipe import Recipe
from studio.draft import Draft, Where
from studio.fields import Field
from studio.labels import label, named
from studio.layout import stack
from studio.lists import Many
from studio.session import Session
from studio.views import Fragment, txt

SECTIONS: dict[str, Setting] = {found.name: found for found in settings(Recipe)}
COLUMN = "repeat(auto-fill, minmax(220px, 1fr))"
FOLD_SX = {  # a quiet line that folds, its arrow beside its words
    "background": "transparent", "&:before": {"display": "none"},
    "& .MuiAccordionSummary-root": {"padding": 0, "minHeight": 36, "flexDirection": "row-reverse", "gap": "6px",
                                    "color": "text.secondary"},
    "& .MuiAccordionSummary-content": {"margin": "4px 0"},
    "& .MuiAccordionDetails-root": {"padding": "14px 0 4px"},
}


class Form(Viewer):
    """The settings of one section of the draft ("optim"), or of the recipe itself ("").

    `only` and `skip` choose among the settings by name; they don't change what is valid.
    """

    def __init__(self, section: str, session: Session, *, only: tuple[str, ...] = (),
                 skip: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.session = session
        where, cls = ((section,), SECTIONS[section].config) if section else ((), Recipe)
        self.group = part(cls, where, session.draft, only, skip)
        session.draft.param.watch(lambda *_: self.group.refresh(), "version")

    def field(self, name: str) -> Field:
        """The field of one setting, for a page or a test that wants to look at it."""
        return self.group.fields[name]

    def __panel__(self) -> Viewable:
        return self.group.view


class Group:
    """The settings of one config: the everyday ones in a grid, the advanced ones folded away."""

    def __init__(self, cls: type[Config], where: Where, draft: Draft, only: tuple[str, ...] = (),
                 skip: tuple[str, ...] = ()) -> None:
        chosen = [s for s in settings(cls) if (not only or s.name in only) and s.name not in skip]
        self.fields: dict[str, Any] = {s.name: field(s, (*where, s.name), draft) for s in chosen}
        everyday = [self.fields[s.name].view for s in chosen if not s.advanced]
        advanced = [self.fields[s.name].view for s in chosen if s.advanced]
        self.view = stack(gap="10px")
        if everyday:
            self.view.append(grid(everyday))
        self.more = None
        if advanced:
            folded = grid([])
            self.more = pmui.Accordion(("Advanced settings", folded), sizing_mode="stretch_width", margin=0,
                                       title_variant="subtitle2", disable_gutters=True, elevation=0, sx=FOLD_SX)
            # Half of a form's settings are folded away: the browser gets them when they are first wanted.
            self.more.param.watch(lambda event: folded.objects or folded.extend(advanced), "active")
            self.view.append(self.more)
        self.advanced = [s.name for s in chosen if s.advanced]
        self._unfold()

    def refresh(self) -> None:
        for each in self.fields.values():
            each.refresh()
        self._unfold()

    def _unfold(self) -> None:
        """An error is not to be folded away."""
        if self.more is not None and not self.more.active and any(self.fields[n].wrong for n in self.advanced):
            self.more.active = [0]

    @property
    def wrong(self) -> bool:
        return any(each.wrong for each in self.fields.values())


class Choice:
    """A part: its kind as a select, with the words of that kind, and the kind's own settings below."""

    def __init__(self, base: type[Part], where: Where, draft: Draft, only: tuple[str, ...] = (),
                 skip: tuple[str, ...] = (), name: str = "Kind") -> None:
        self.base, self.where, self.draft, self.only, self.skip = base, where, draft, only, skip
        self.select = pmui.Select(label=name, options={label(kind): kind for kind in base.table}, size="small",
                                  sizing_mode="stretch_width", margin=0)
        self.words = Fragment()
        self.kind = ""
        self.group: Group | None = None
        self.view = stack(grid([self.select]), self.words, gap="16px")
        self.select.param.watch(self._chosen, "value")
        self.refresh()

    def _chosen(self, event: Any) -> None:
        if event.new != self.kind:
            self.draft.choose(self.where, event.new)

    def refresh(self) -> None:
        kind = getattr(self.draft.effective(self.where), "kind", "")
        if kind and kind != self.kind:
            self.kind = kind
            self.select.value = kind
            self.words.html = txt('<p class="line">{}</p>', " ".join((self.base.table[kind].__doc__ or "").split()))
            self.group = Group(self.base.table[kind], self.where, self.draft, self.only, self.skip)
            self.view[2:] = [self.group.view]
        problem = named(self.draft.problem(self.where) or self.draft.problem((*self.where, "kind")))
        self.select.param.update(error_state=bool(problem), helper_text=problem)
        if self.group is not None:
            self.group.refresh()

    @property
    def fields(self) -> dict[str, Any]:
        return self.group.fields if self.group else {}

    @property
    def wrong(self) -> bool:
        return bool(self.select.error_state) or (self.group is not None and self.group.wrong)


def part(cls: Any, where: Where, draft: Draft, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> Any:
    """The group or the choice that edits a config at a place in the draft."""
    chosen = issubclass(cls, Part) and not cls.kind
    return (Choice if chosen else Group)(cls, where, draft, only, skip)


def field(setting: Setting, where: Where, draft: Draft) -> Any:
    """What edits one setting: a field, a group of its own, or a list."""
    if setting.config is not None and setting.many:
        return Many(setting, where, draft, part)
    if setting.config is not None:
        return part(setting.config, where, draft)
    return Field(setting, where, draft)


def grid(views: list[Viewable]) -> Viewable:
    """Fields in as many columns as there is room for."""
    return pmui.FlexBox(*views, sizing_mode="stretch_width", margin=0, sx={
        "display": "grid", "gridTemplateColumns": COLUMN, "gap": "18px 16px", "alignItems": "start"})


