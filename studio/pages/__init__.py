"""The pages, in the order of the path. To add one, write `studio/pages/NOUN.py` and put its class here."""

from __future__ import annotations

from studio.page import Page
from studio.pages.home import Home
from studio.pages.runs import Runs
from studio.pages.stages import Train

PAGES: list[type[Page]] = [Home, Train, Runs]
