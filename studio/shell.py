"""The shell: header, navigation in path order, theme and help around one page at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import panel as pn
import panel_material_ui as pmui
from panel.util import edit_readonly
from panel.viewable import Viewable, Viewer

from engine.workspace import ASSETS
from studio.address import Address
from studio.layout import stack
from studio.page import Page
from studio.pages import PAGES
from studio.recipe_code import recipe_code
from studio.run_view import RunView
from studio.session import Session
from studio.theme import LOGO, PAGE_SX, THEME
from studio.views import Fragment, Markup, banner, heading, icon, txt

log = logging.getLogger("studio")

TICK_MILLISECONDS = 500
SETTLE_SECONDS = 0.8  # a page that was just mounted is left in peace until the browser has drawn it


class Studio(Viewer):
    """The whole studio for one browser session. Pages are made when they are first shown, and then kept."""

    def __init__(self, session: Session | None = None, **params: Any) -> None:
        super().__init__(**params)
        self.session = session or Session()
        self.pages: dict[str, Page] = {cls.noun: cls(self.session) for cls in PAGES}
        self._holders = {noun: stack(visible=False, css_classes=[noun], styles=SHEET) for noun in self.pages}
        self._mounted = 0.0
        self._broken: set[str] = set()
        self._astray, self.stray = "", Fragment()  # a page that was asked for and is none
        self.stray_holder = stack(self.stray, visible=False, styles={**SHEET, "padding": "28px 32px 0"})
        self.nav = pmui.MenuList(items=[{"label": p.title, "icon": p.icon} for p in PAGES], dense=False, margin=(8, 10),
                                 sizing_mode="stretch_width", sx=NAV_SX)
        self.nav.param.watch(self._navigate, "active")
        self.help = pmui.Drawer(anchor="right", size=400, variant="temporary", margin=0)
        self.view = pmui.Page(
            meta_title="Training Studio", sidebar_width=208, sidebar_resizable=False,
            header=[Fragment(self._header(), on_press=self._press), Address(self.session)], sidebar=[self.nav],
            main=[self.stray_holder, *self._holders.values(), self.help],
            theme_config=THEME, sx=PAGE_SX, dark_theme=self.session.dark, favicon=ASSETS / "theme" / "logo.svg",
            raw_css=[VEIL])
        with edit_readonly(self.view):
            self.view.busy = False  # each toggle would walk the model tree, twice a second
        self.view.param.watch(self._theme_chosen, "dark_theme")
        self.session.param.watch(lambda *_: self.show(), "page")
        self.show()

    def __panel__(self) -> Viewable:
        return self.view

    # Pages -------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Bring the session's page into sight; an unknown noun leads home, which is said there."""
        titles = {page.title.lower(): page.noun for page in PAGES}   # what people write: ?page=train
        noun = self.session.page = titles.get(self.session.page, self.session.page)
        if noun not in self.pages:
            self._astray, self.session.page = noun, "home"
            return
        astray, self._astray = self._astray, ""
        self.stray.html = banner("warning", f"There is no page called {astray}; this is Home.") if astray else txt("")
        self.stray_holder.visible = bool(astray)
        page, holder = self.pages[noun], self._holders[noun]
        if not holder.objects:
            made = self._attempt(page, page.view)
            if made is not None:
                self._attempt(page, page.shown)     # a page that is whole when it is mounted is drawn once
            if noun not in self._broken:
                holder.objects = [*self._title(page), made]
        elif noun not in self._broken:
            self._attempt(page, page.shown)
        for name, each in self._holders.items():
            each.visible = name == noun
        self.nav.active = (list(self.pages).index(noun),)
        self._mounted = time.monotonic()
        self.help.open = False

    def _attempt(self, page: Page, do: Callable[[], Viewable | None]) -> Viewable | None:
        """Let a page do something; one that fails says why in its place, and the other pages go on."""
        try:
            return do()
        except Exception as error:
            self._broken.add(page.noun)
            complain(error)
            broken = Fragment(banner("error", f"This page could not be shown ({type(error).__name__}: {error}). "
                                              "The studio's log has the details."))
            self._holders[page.noun].objects = [*self._title(page), broken]
            return None

    def _title(self, page: Page) -> list[Viewable]:
        if not page.line:
            return []
        code = [recipe_code(self.session, page.sections, page.command)] if page.sections else []
        return [pn.Row(heading(page.title, page.line), *code, sizing_mode="stretch_width", margin=0)]

    def _navigate(self, event: Any) -> None:
        if event.new:
            self.session.page = list(self.pages)[event.new[0] if isinstance(event.new, (tuple, list)) else event.new]

    def tick(self) -> None:
        """Twice a second: what is in sight looks at the world; the draft is kept."""
        self.session.keep()
        if time.monotonic() - self._mounted > SETTLE_SECONDS and self.session.page in self.pages.keys() - self._broken:
            self.pages[self.session.page].tick()

    # Header ------------------------------------------------------------------------------------------

    def _header(self) -> Markup:
        return txt('<div class="header"><button type="button" class="name" data-press="home">{}<b>Training Studio</b>'
                   '</button><span class="where" title="{}">{}<span>{}</span></span>'
                   '<button type="button" class="press quiet" data-press="help">{}Help</button></div>',
                   Markup(LOGO), "Workspace: everything is kept here", icon("folder_open"), self.session.workspace.path,
                   icon("help_outline"))

    def _press(self, what: str) -> None:
        if what == "home":
            self.session.goto("home")
            return
        page = self.pages.get(self.session.page, self.pages["home"])
        text = (ASSETS / "help" / f"{page.noun}.md").read_text(encoding="utf-8")
        self.help.objects = [pmui.Typography(text, margin=(72, 28, 32, 28), sizing_mode="stretch_width")]
        self.help.open = not self.help.open

    def _theme_chosen(self, event: Any) -> None:
        self.session.dark = event.new


class RunAlone(Viewer):
    """One run without the rest of the studio, for a frame in a notebook. The address names it."""

    def __init__(self, session: Session, **params: Any) -> None:
        super().__init__(**params)
        self.session = session
        asked = parse_qs((pn.state.location.search or "").removeprefix("?")) if pn.state.location else {}
        session.run = asked.get("run", [""])[0]
        self.run = RunView(session, alone=True)
        there = (session.workspace.place("runs") / session.run / "recipe.yaml").exists() and session.run
        missing = Fragment(banner("error", f"There is no run called {session.run} in {session.workspace.path}."))
        self.view = pmui.Container(self.run if there else missing, theme_config=THEME, width_option=False, margin=0,
                                   sizing_mode="stretch_width", sx={"padding": "4px"})
        if there:
            self.run.look([session.run])

    def __panel__(self) -> Viewable:
        return self.view

    def tick(self) -> None:
        """Twice a second: what is new in the run."""
        self.run.tick()


# Panel drops what the server answers until the browser has drawn everything: a click must wait, but one can read.
VEIL = """
#loader { background: none !important; cursor: progress; justify-content: flex-end !important; padding-bottom: 24px; }
#loader .spinner { width: 26px; height: 26px; border-width: 3px; border-color: #8884; border-top-color: #0b8576; }
"""

SHEET = {"width": "100%", "max-width": "1240px", "margin": "0 auto", "padding": "28px 32px 64px",
         "box-sizing": "border-box", "gap": "20px"}

NAV_SX: dict[str, Any] = {
    "& .MuiListItemButton-root": {"borderRadius": "8px", "paddingBlock": "7px", "marginBlock": "2px"},
    "& .MuiListItemIcon-root": {"minWidth": "38px"},
    "& .MuiListItemText-primary": {"fontSize": 15},
}


def complain(error: Exception) -> None:
    """What happens to an exception in a callback: the log has it all, the person sees one sentence."""
    log.error("a callback failed", exc_info=error)
    if pn.state.notifications is not None:
        pn.state.notifications.error(f"Something went wrong here ({type(error).__name__}: {error}). "
                                     "The studio's log has the details; runs go on.", duration=10_000)
