"""Runs."""

from __future__ import annotations

from panel.viewable import Viewable

from studio.page import Page
from studio.views import Fragment, txt


class Runs(Page):
    title, icon, noun, line = "Runs", "show_chart", "runs", "What is running, what ran, and what came of it."

    def view(self) -> Viewable:
        return Fragment(txt("<h1>Runs</h1>"))
