"""Home: the path at a glance, and one button that walks it."""

from __future__ import annotations

from panel.viewable import Viewable

from studio.page import Page
from studio.views import Fragment, txt


class Home(Page):
    title, icon, noun, line = "Home", "home", "home", ""

    def view(self) -> Viewable:
        return Fragment(txt("<h1>Home</h1>"))
